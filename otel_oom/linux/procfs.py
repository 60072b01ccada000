"""Files of the kernel: each is had by a bounded read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_START_TIME: Final = 22 - 3
"""proc_pid_stat(5): field 22, counted from field 3, the first behind the command's name."""
_EXIT_CODE: Final = 52 - 3


def read(path: Path | str, most: int) -> str | None:
    r"""At most so many bytes of a file, ``\xNN`` for what is not UTF-8; ``None`` without it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, most).decode("utf-8", errors="backslashreplace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_lines(path: Path, most: int) -> list[str]:
    """The lines of a file of many records, at most so many bytes of it; none without it.

    The kernel gives no more than a page of it at once (``seq_read_iter()``).
    """
    parts, left = [], most
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        while left > 0 and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
    except OSError:
        # What was read before is good.
        pass
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", errors="backslashreplace").splitlines()


def start_ticks(stat: str) -> int | None:
    """When the process of a ``/proc/PID/stat`` was started, in clock ticks since the boot."""
    return _number(stat, _START_TIME)


def exit_code(stat: str) -> int | None:
    """How a dead process ended, as wait(2) gives it.

    Zero is what those see who may not see it: ``None``.
    """
    return _number(stat, _EXIT_CODE) or None


def _number(stat: str, field: int) -> int | None:
    try:
        return int(stat.rpartition(")")[2].split()[field])
    except (ValueError, IndexError):
        return None
