"""How much the store may keep, and for how long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = "OTEL_OOM_STORE_MAX_BYTES"
MAX_AGE: Final = "OTEL_OOM_STORE_MAX_AGE"

_MIB: Final = 1 << 20
_LEAST_BYTES: Final = 16 * _MIB
_DAY_S: Final = 86_400

_BYTES: Final = {"": 1, "KiB": 1 << 10, "MiB": _MIB, "GiB": 1 << 30}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": _DAY_S}


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What the store may take on the disk, in bytes, and how long it keeps history, in seconds.

    The age is of what a backend has taken. What none has taken has no age limit: that is for the
    backend to judge (Loki, say, refuses what is older than a week unless told otherwise).
    """

    max_bytes: int = 256 * _MIB
    max_age_s: int = 30 * _DAY_S


class BoundsError(ValueError):
    """A bound can't be used; the message names the variable and what it takes."""


def read(environ: Mapping[str, str]) -> StoreLimits:
    """The bounds that ``environ`` holds; an empty value is as good as none.

    Raises:
        BoundsError: a value can't be used.
    """
    default = StoreLimits()
    size = _amount(environ.get(MAX_BYTES, ""), _BYTES, default.max_bytes)
    if size is None or not _LEAST_BYTES <= size < 1 << 43:
        raise _wrong(environ, MAX_BYTES, "bytes, 16MiB or more, such as 268435456 or 256MiB")
    age = _amount(environ.get(MAX_AGE, ""), _SECONDS, default.max_age_s)
    if age is None or age > 10_000 * _DAY_S:
        raise _wrong(environ, MAX_AGE, "a time such as 30d, 12h or 3600s")
    return StoreLimits(size, age)


def _amount(text: str, units: Mapping[str, int], default: int) -> int | None:
    if not text.strip():
        return default
    found = re.fullmatch(r"([0-9]{1,18})\s*([A-Za-z]*)", text.strip(), re.ASCII)
    return int(found[1]) * units[found[2]] if found and found[2] in units else None


def _wrong(environ: Mapping[str, str], name: str, takes: str) -> BoundsError:
    return BoundsError(f"{name}={environ[name]!r} can't be used: it takes {takes}.")
