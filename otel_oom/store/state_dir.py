"""The state directory: private, and locked by one agent at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_LOCK: Final = "lock"
_OPEN: Final = os.O_CLOEXEC | os.O_NOFOLLOW


class StoreError(Exception):
    """The store can't be used; the message says why and what to do next."""


class StateDirectory:
    """The directory ``path``, of mode 0700, so that nobody else can read or place files in it."""

    def __init__(self, path: Path) -> None:
        """Touch nothing before :meth:`lock`, which follows a symbolic link made by root."""
        self.path = path
        self._lock: int | None = None

    def lock(self) -> None:
        """Create the directory if it is missing, and lock it, unless it is locked already.

        Raises:
            StoreError: another agent has locked it, another user owns it, or it is not writable.
        """
        try:
            self._prepare()
            if self._is_locked():
                return
            lock = self._open(_LOCK)
        except OSError as error:
            raise StoreError(
                f"The state directory {self.path} can't be used: {error.strerror}. "
                "Name another with --state-dir, or run as a user who may write there."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StoreError(
                f"Another otel-oom already works in {self.path}. "
                "Stop it first, or give this one a --state-dir of its own."
            ) from None
        self.release()
        self._lock = lock

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            # Closing is not enough: a process that is being started has a copy of the descriptor.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
        self._lock = None

    def prepare_file(self, name: str) -> None:
        """Create the database ``name`` if it is missing, and require that it is private.

        Raises:
            OSError: it can't be created, or is a symbolic link.
            StoreError: another user owns it, or SQLite's own file beside it is a link.
        """
        for beside in (f"{name}-wal", f"{name}-shm"):
            # SQLite opens those itself, and would follow a link.
            if (self.path / beside).is_symlink():
                raise _link_error(self.path / beside)
        os.close(self._open(name))

    def sync(self) -> None:
        """Sync the names in it, and its own: new ones must survive a crash. Raises OSError."""
        sync_directory(self.path)
        with suppress(OSError):
            # Not every user may read the directory above.
            sync_directory(self.path.parent)

    def _prepare(self) -> None:
        with suppress(FileExistsError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700)
        if self.path.is_symlink():
            self.path = _resolve_link(self.path)
        directory = os.open(self.path, _OPEN | os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._require_private(directory, self.path, 0o700)
        finally:
            os.close(directory)

    def _open(self, name: str) -> int:
        file = os.open(self.path / name, _OPEN | os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._require_private(file, self.path / name, 0o600)
        except BaseException:
            os.close(file)
            raise
        return file

    def _is_locked(self) -> bool:
        if self._lock is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._lock), os.lstat(self.path / _LOCK))
        except FileNotFoundError:
            return False

    @staticmethod
    def _require_private(file: int, path: Path, mode: int) -> None:
        status = os.fstat(file)
        if status.st_uid != os.geteuid():
            raise StoreError(
                f"{path} is owned by uid {status.st_uid}, which could tamper with events. "
                f"Give it to uid {os.geteuid()}, or name another directory with --state-dir."
            )
        if stat.S_IMODE(status.st_mode) & ~mode:
            os.fchmod(file, mode)


def sync_directory(path: Path) -> None:
    """Sync the names in a directory."""
    directory = os.open(path, os.O_CLOEXEC | os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _resolve_link(path: Path) -> Path:
    """Resolve a link that nobody but root can have made, or could replace.

    systemd makes one of its StateDirectory= for a service with DynamicUser= (systemd.exec(5)).
    """
    link, parent = path.lstat(), path.parent.stat()
    others_write = parent.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if link.st_uid != 0 or parent.st_uid != 0 or others_write:
        raise _link_error(path)
    return path.resolve(strict=True)


def _link_error(path: Path) -> StoreError:
    return StoreError(
        f"{path} is a symbolic link, and those are not followed. "
        "Remove it, or name a directory of its own with --state-dir."
    )
