"""The store: its directory, its limits of size and age, and what is stored of a kill."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.config.variable import Variable, read_variable
from otel_oom.model.units import DAY_S, MIB

MAX_BYTES: Final = "OTEL_OOM_STORE_MAX_BYTES"
MAX_AGE: Final = "OTEL_OOM_STORE_MAX_AGE"
MAX_SERIES: Final = "OTEL_OOM_METRIC_SERIES"
REPORT_INTERVAL: Final = "OTEL_OOM_REPORT_INTERVAL"

_AGENT_DIR: Final = Path("/var/lib/otel-oom")
_REPLAY_NAME: Final = "otel-oom-replay"

_MIN_BYTES: Final = 16 * MIB
_MAX_BYTES: Final = (1 << 43) - 1
_MAX_AGE_S: Final = 10_000 * DAY_S
_MAX_SERIES: Final = 100_000

_BYTES: Final = {"": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}


class StoreLimits(Struct, frozen=True):
    """Maximum size of the store in bytes, and age of its history in seconds.

    ``max_series`` is the number of owners by which kills are counted, 0 for none.
    The age limit is for delivered events. Undelivered ones have none: only the backend can decide
    that an event is too old (Loki, for example, rejects what is older than a week by default).
    """

    max_bytes: int = 256 * MIB
    max_age_s: int = 30 * DAY_S
    max_series: int = 1000


def read_store_limits(environ: Mapping[str, str]) -> StoreLimits:
    """Return the limits in ``environ``. Raises ConfigError."""
    default = StoreLimits()
    size, age = read_variable(environ, MAX_BYTES), read_variable(environ, MAX_AGE)
    max_bytes = _parse_amount(size, _BYTES) if size.text else default.max_bytes
    if not _MIN_BYTES <= max_bytes <= _MAX_BYTES:
        raise size.error("bytes, 16MiB or more, such as 268435456 or 256MiB")
    max_age_s = _parse_amount(age, _SECONDS) if age.text else default.max_age_s
    if not 0 <= max_age_s <= _MAX_AGE_S:
        raise age.error("a time such as 30d, 12h or 3600s")
    series = read_variable(environ, MAX_SERIES, default=str(default.max_series))
    max_series = _parse_amount(series, {"": 1})
    if not 0 <= max_series <= _MAX_SERIES:
        raise series.error(f"a whole number up to {_MAX_SERIES}, such as {default.max_series}")
    return StoreLimits(max_bytes, max_age_s, max_series)


def read_report_interval_s(environ: Mapping[str, str]) -> int:
    """Return how long one report stands for later kills; 0 for ``off``. Raises ConfigError."""
    interval = read_variable(environ, REPORT_INTERVAL, default="off")
    seconds = 0 if interval.text.lower() == "off" else parse_seconds(interval)
    if not 0 <= seconds <= DAY_S:
        raise interval.error("off, or a time up to 1d such as 10s or 1m")
    return seconds


def parse_seconds(variable: Variable) -> int:
    """Parse a time such as ``10s`` or ``1m``; -1 if it is invalid."""
    return _parse_amount(variable, _SECONDS)


def _parse_amount(variable: Variable, units: Mapping[str, int]) -> int:
    """Parse an amount with its unit; -1 if it is invalid."""
    match = re.fullmatch(r"([0-9]{1,18})\s*([A-Za-z]*)", variable.text, re.ASCII)
    return int(match[1]) * units[match[2]] if match and match[2] in units else -1


def read_state_dir(environ: Mapping[str, str]) -> Path:
    """Return the state directory of the agent."""
    return _service_dir(environ) or _AGENT_DIR


def read_replay_state_dir(environ: Mapping[str, str]) -> Path:
    """Return a state directory that no agent uses and that the user can write to."""
    if service_dir := _service_dir(environ):
        return service_dir / "replay"
    if os.geteuid() == 0:
        return _AGENT_DIR.with_name(_REPLAY_NAME)
    folder = environ.get("XDG_STATE_HOME", "")
    # Without a home too, the error names the folder that can't be made.
    state = folder if folder.startswith("/") else os.path.expanduser("~/.local/state")  # noqa: PTH111  Path's raises
    return Path(state) / _REPLAY_NAME


def _service_dir(environ: Mapping[str, str]) -> Path | None:
    # systemd separates several by colons; the first is the service's own.
    folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None
