"""Bounded reads of small text files, such as those of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

from otel_oom.model.text import decode_bytes


def read_text(path: Path | str, max_bytes: int) -> str | None:
    """Read the start of a file by one read(2); ``None`` if it is not readable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return decode_bytes(os.read(descriptor, max_bytes))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_lines(path: Path | str, max_bytes: int) -> list[str]:
    """Read the lines of a file of many records; empty if it is not readable.

    One read(2) returns at most a page of such a file (``seq_read_iter()``), so there are several.
    """
    parts, remaining = [], max_bytes
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        while remaining > 0 and (part := os.read(descriptor, remaining)):
            parts.append(part)
            remaining -= len(part)
    except OSError:
        # Earlier parts are good.
        pass
    finally:
        os.close(descriptor)
    return decode_bytes(b"".join(parts)).removesuffix("\n").split("\n")
