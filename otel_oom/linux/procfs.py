"""Bounded reads of small text files, such as those of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

from otel_oom.model.text import decode_bytes


def read_text(path: Path | str, max_bytes: int) -> str | None:
    """Read the start of a file by one read(2); ``None`` if it is not readable."""
    raw = _read(path, max_bytes, max_reads=1)
    return None if raw is None else decode_bytes(raw)


def read_lines(path: Path | str, max_bytes: int) -> list[str]:
    """Read the lines of a file of many records; empty if it is not readable.

    One read(2) returns at most a page of such a file (``seq_read_iter()``), so there are several.
    """
    raw = _read(path, max_bytes, max_reads=max_bytes)
    return decode_bytes(raw).removesuffix("\n").split("\n") if raw else []


def _read(path: Path | str, max_bytes: int, max_reads: int) -> bytes | None:
    parts: list[bytes] = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        while len(parts) < max_reads and (part := os.read(descriptor, max_bytes)):
            parts.append(part)
            max_bytes -= len(part)
    except OSError:
        # Earlier parts are good.
        return b"".join(parts) if parts else None
    finally:
        os.close(descriptor)
    return b"".join(parts)
