"""inotify(7): new entries of folders, told through a file descriptor."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CREATE: Final = 0x100
_MOVED_TO: Final = 0x80
_ONLY_FOLDERS: Final = 0x01000000
_HEADER: Final = struct.Struct("=iIII")
_READ_BYTES: Final = 65536


class Inotify:
    """Folders that are watched for new entries."""

    def __init__(self) -> None:
        """Watch nothing yet.

        Raises:
            OSError: the host allows no further instance (``fs.inotify.max_user_instances``).
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise _error()

    def fileno(self) -> int:
        """Readable when there is something new."""
        return self._fd

    def add(self, folder: Path) -> int:
        """Watch ``folder``; the number that :meth:`read` gives for it, the same when asked again.

        Raises:
            OSError: it is no folder, or the host allows no further one.
        """
        number: int = self._libc.inotify_add_watch(
            self._fd, os.fsencode(folder), _CREATE | _MOVED_TO | _ONLY_FOLDERS
        )
        if number < 0:
            raise _error()
        return number

    def read(self) -> Iterator[tuple[int, str]]:
        """Each new entry's folder, by its number, and name."""
        try:
            content = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(content):
            number, _, _, length = _HEADER.unpack_from(content, at)
            at += _HEADER.size
            yield number, os.fsdecode(content[at : at + length].rstrip(b"\0"))
            at += length

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self._fd)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
