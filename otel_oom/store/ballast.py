"""Space on the disk that is allocated ahead, to be given back when there is no other."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from otel_oom.store.trouble import NO_SPACE

_LOG = logging.getLogger(__name__)

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Ballast:
    """A file of ``size`` bytes that holds nothing.

    A file system that copies on write, or compresses, can still want more than it gives back.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Nothing is taken yet, unless an earlier process has left it."""
        self._path = path
        self._size = size

    @property
    def held(self) -> bool:
        """Whether it is there in full."""
        return self._bytes() >= self._size

    def take(self) -> bool:
        """Allocate it; ``False`` when the disk has no room for it."""
        return self.held or allocate(self._path, self._size)

    def take_some(self, size: int) -> None:
        """Allocate at least so much of it, or half of that, or a quarter."""
        if not self._bytes():
            any(allocate(self._path, size // part) for part in (1, 2, 4))

    def give_back(self) -> bool:
        """Let its space go, to whoever writes next; ``False`` when there was none."""
        if not self._bytes():
            return False
        try:
            os.truncate(self._path, 0)
        except OSError as error:
            _LOG.warning("The space of %s can't be given back: %s", self._path, error.strerror)
            return False
        return True

    def _bytes(self) -> int:
        try:
            return self._path.lstat().st_size
        except OSError:
            return 0


def allocate(path: Path, size: int) -> bool:
    """Give the file at least ``size`` bytes on the disk; ``False`` when the disk has no room.

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
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            # A part of it may have been allocated.
            os.ftruncate(file, before)
            return error.errno not in NO_SPACE
    finally:
        os.close(file)
    return True
