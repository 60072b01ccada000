"""inotify(7): new entries of directories, through a file descriptor."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_IN_CREATE: Final = 0x100
_IN_MOVED_TO: Final = 0x80
_IN_ONLYDIR: Final = 0x01000000
_HEADER: Final = struct.Struct("=iIII")
_READ_BYTES: Final = 65536


class Inotify:
    """An inotify instance that reports new entries."""

    def __init__(self) -> None:
        """Watch nothing yet. Raises OSError beyond ``fs.inotify.max_user_instances``."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise _os_error()

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is a new entry."""
        return self._fd

    def add(self, folder: Path) -> int:
        """Watch ``folder``; return its watch descriptor, the same for each call.

        Raises OSError if it is no directory, or if the host allows no further watch.
        """
        watch: int = self._libc.inotify_add_watch(
            self._fd, os.fsencode(folder), _IN_CREATE | _IN_MOVED_TO | _IN_ONLYDIR
        )
        if watch < 0:
            raise _os_error()
        return watch

    def read_entries(self) -> Iterator[tuple[int, str]]:
        """Return the watch descriptor and the name of each new entry."""
        try:
            content = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(content):
            watch, _, _, length = _HEADER.unpack_from(content, offset)
            offset += _HEADER.size
            yield watch, os.fsdecode(content[offset : offset + length].rstrip(b"\0"))
            offset += length

    def close(self) -> None:
        """End all watches."""
        os.close(self._fd)


def _os_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
