"""JSON that others wrote: bounded, of any shape, and perhaps malformed.

It is decoded into types that have the wanted fields only. The decoder skips all else: as objects of
Python, hostile JSON would take 34 times its size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Raw, Struct, defstruct
from msgspec.json import decode
from msgspec.structs import astuple

from otel_oom.linux.untrusted_file import open_root, open_untrusted

MAX_BYTES: Final = 1 << 20
"""Kubernetes allows 256 KiB of annotations, which CRI-O writes twice."""
_MAX_TEXT_CHARS: Final = 1024
_MAX_TEXTS: Final = 64

NULL: Final = Raw(b"null")
_T = TypeVar("_T")


def read_json(root: Path, path: Path, kind: type[_T], owner: int | None = None) -> _T | None:
    """Read a file below ``root`` as a value of the type ``kind``, by :func:`.open_untrusted`.

    ``None`` if it is absent, too large, no regular file of ``owner``, or no such value.
    Raises PermissionError if it exists and is not readable.
    """
    try:
        with open_root(root) as root_fd:
            fd = open_untrusted(root_fd, path, max_bytes=MAX_BYTES, owner=owner)
        try:
            return parse_json(os.read(fd, MAX_BYTES), kind)
        finally:
            os.close(fd)
    except PermissionError:
        raise
    except (OSError, ValueError):
        # A path from another file may contain a NUL.
        return None


def parse_json(content: bytes | str, kind: type[_T]) -> _T | None:
    """Parse text or bytes; ``None`` if it is no value of the type ``kind``."""
    try:
        return decode(content, type=kind)
    except (ValueError, RecursionError):
        return None


def bound_text(text: str | None) -> str | None:
    """Return the start of ``text``; ``None`` if it is empty."""
    return text[:_MAX_TEXT_CHARS] if text else None


def select_texts(content: bytes | str, keys: frozenset[str]) -> Mapping[str, str]:
    """Return the entries of a JSON object that have one of ``keys`` and a string."""
    fields = parse_json(content, _fields_type(keys)) if keys else None
    texts = {
        key: bound_text(parse_json(raw, str))
        for key, raw in zip(sorted(keys), astuple(fields) if fields else (), strict=False)
    }
    selected = [(key, text) for key, text in texts.items() if text]
    return dict(selected[:_MAX_TEXTS])


@cache
def _fields_type(keys: frozenset[str]) -> type[Struct]:
    names = {f"field_{number}": key for number, key in enumerate(sorted(keys))}
    return defstruct("Fields", [(name, Raw, NULL) for name in names], rename=names)
