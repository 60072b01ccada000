"""Disk space allocated ahead, to be released when there is no other: a ballast file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from otel_oom.store.recovery.errors import NO_SPACE

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class ReserveFile:
    """A file of ``length`` bytes that holds nothing.

    A file system that copies on write, or compresses, may need more space than this releases.
    """

    def __init__(self, path: Path, length: int) -> None:
        """Allocate nothing yet; an earlier process may have left the file."""
        self._path = path
        self._length = length

    def allocate(self) -> bool:
        """Allocate all of it; return ``False`` if the disk has no space for that."""
        return file_size(self._path) >= self._length or allocate_file(self._path, self._length)

    def allocate_part(self, length: int) -> None:
        """Allocate ``length`` bytes, or half of that, or a quarter, if there are none."""
        if not file_size(self._path):
            any(allocate_file(self._path, length // part) for part in (1, 2, 4))

    def release(self) -> bool:
        """Release its space; return ``False`` if there was none."""
        if not file_size(self._path):
            return False
        try:
            file = os.open(self._path, _FLAGS)
        except OSError:
            return False
        try:
            os.ftruncate(file, 0)
        finally:
            os.close(file)
        return True


def file_size(path: Path) -> int:
    """Return the length of a file in bytes; 0 if there is none."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def allocate_file(path: Path, length: int) -> bool:
    """Allocate at least ``length`` bytes for a file; return ``False`` if the disk is full.

    New bytes read as zeros. Where space can't be allocated for another reason, the result is
    ``True``: there is nothing to wait for.
    """
    try:
        file = os.open(path, _FLAGS, 0o600)
    except OSError as error:
        return error.errno not in NO_SPACE
    try:
        before = os.fstat(file).st_size
        try:
            os.posix_fallocate(file, 0, length)
        except OSError as error:
            # A part of it may have been allocated.
            with suppress(OSError):
                os.ftruncate(file, before)
            return error.errno not in NO_SPACE
    finally:
        os.close(file)
    return True
