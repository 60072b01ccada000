"""Reads of one cgroup: a number, a limit, the time at which it was made."""

from __future__ import annotations

import os
import time
from typing import Final

from otel_oom.linux.cgroupfs import UNLIMITED_V1_BYTES
from otel_oom.linux.clock import boottime_ns
from otel_oom.model.units import PAGE_BYTES

_READ_BYTES: Final = 32


def read_limit(path: str, last_pages: int | None) -> int | None:
    """Read a limit, in pages: ``None`` without one, ``last_pages`` if the read fails."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # Of the root, and without the memory controller.
        return None
    except OSError:
        return last_pages
    try:
        text = os.read(descriptor, _READ_BYTES)
        limit_bytes = UNLIMITED_V1_BYTES if text == b"max\n" else int(text)
    except (OSError, ValueError):
        return last_pages
    finally:
        os.close(descriptor)
    return None if limit_bytes >= UNLIMITED_V1_BYTES else limit_bytes // PAGE_BYTES


def read_number(path: str) -> int | None:
    """Read a number by one open(2) and read(2); ``None`` if it is absent or another text."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return int(os.read(descriptor, _READ_BYTES))
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


def read_creation_time(folder: str, inode: int | None = None) -> int | None:
    """Return the latest time at which a cgroup can have been made; ``None`` if it is gone.

    With ``inode``, another cgroup at that path does not count.
    """
    try:
        status = os.stat(folder)  # noqa: PTH116  a Path takes longer than the kernel
    except OSError:
        return None
    return creation_time(status) if inode in {None, status.st_ino} else None


def creation_time(status: os.stat_result) -> int:
    """Return the latest time at which a cgroup can have been made, on CLOCK_BOOTTIME.

    The kernel keeps no time of creation. Its inode's times are of when the folder was first used,
    mostly at once, or of a later change (kernfs_init_inode()); cAdvisor uses them likewise.
    """
    age_ns = max(0, time.time_ns() - min(status.st_mtime_ns, status.st_ctime_ns))
    return max(0, boottime_ns() - age_ns)
