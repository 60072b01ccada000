"""Space on the disk that is allocated ahead, to be given back when there is no other."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from otel_oom.store.recovery.errors import NO_SPACE

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class ReserveFile:
    """A file of ``whole`` bytes that holds nothing.

    A file system that copies on write, or compresses, can still want more than it gives back.
    """

    def __init__(self, path: Path, whole: int) -> None:
        """Nothing is taken yet, unless an earlier process has left it."""
        self._path = path
        self._whole = whole

    @property
    def held(self) -> bool:
        """Whether it is there in full."""
        return file_size(self._path) >= self._whole

    def take(self) -> bool:
        """Allocate it; ``False`` when the disk has no room for it."""
        return self.held or allocate_file(self._path, self._whole)

    def take_some(self, most: int) -> None:
        """Allocate so much of it, or half of that, or a quarter, where there is nothing of it."""
        if not file_size(self._path):
            any(allocate_file(self._path, most // part) for part in (1, 2, 4))

    def give_back(self) -> bool:
        """Let its space go, to whoever writes next; ``False`` when there was none."""
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
    """How long a file is, in bytes; 0 where there is none."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def allocate_file(path: Path, length: int) -> bool:
    """Give the file at least ``length`` bytes on the disk; ``False`` when the disk has no room.

    What it is longer reads as zeros. Where space can't be allocated for another reason, that is
    as good as done: there is nothing to wait for.
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
