"""The state folder: ours alone, and of one agent at a time."""

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


class StateFolder:
    """The folder ``path``, of mode 0700, whose files nobody else can read or put there."""

    def __init__(self, path: Path) -> None:
        """Nothing is looked at before :meth:`take`, which follows a link that is root's."""
        self.path = path
        self._lock: int | None = None

    def lock(self) -> None:
        """Make the folder if it is missing, and lock it, unless that is done already.

        Raises:
            StoreError: another agent has it, it is somebody else's, or it can't be written.
        """
        try:
            self._prepare()
            if self._is_locked():
                return
            lock = self._open(_LOCK)
        except OSError as error:
            raise StoreError(
                f"The state folder {self.path} can't be used: {error.strerror}. "
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
        """Let another agent have it."""
        if self._lock is not None:
            # Closed alone, it would be held for as long as a process that is being started has a
            # copy of it.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
        self._lock = None

    def prepare_file(self, name: str) -> None:
        """See that the database ``name`` is there, is ours, and nobody else's to read.

        Raises:
            OSError: it can't be made, or is a symbolic link.
            StoreError: it is somebody else's, or SQLite's own file beside it is a link.
        """
        for beside in (f"{name}-wal", f"{name}-shm"):
            # SQLite opens those itself, and would follow a link.
            if (self.path / beside).is_symlink():
                raise _link(self.path / beside)
        os.close(self._open(name))

    def sync(self) -> None:
        """Have the names in the folder, and its own, on the disk: a new one has to outlast a crash.

        Raises:
            OSError: the names in it may not be.
        """
        _sync(self.path)
        with suppress(OSError):
            # Not every user may read the folder above.
            _sync(self.path.parent)

    def _prepare(self) -> None:
        with suppress(FileExistsError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700)
        if self.path.is_symlink():
            self.path = _followed(self.path)
        folder = os.open(self.path, _OPEN | os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._require_own(folder, self.path, 0o700)
        finally:
            os.close(folder)

    def _open(self, name: str) -> int:
        file = os.open(self.path / name, _OPEN | os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._require_own(file, self.path / name, 0o600)
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
    def _require_own(file: int, path: Path, mode: int) -> None:
        found = os.fstat(file)
        if found.st_uid != os.geteuid():
            raise StoreError(
                f"{path} belongs to user {found.st_uid}, who could change what is told. "
                f"Give it to user {os.geteuid()}, or name another folder with --state-dir."
            )
        if stat.S_IMODE(found.st_mode) & ~mode:
            os.fchmod(file, mode)


def _sync(path: Path) -> None:
    folder = os.open(path, os.O_CLOEXEC | os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _followed(path: Path) -> Path:
    """Where a link leads that nobody but root can have made, or could put another in place of.

    systemd makes one of its StateDirectory= for a service with DynamicUser= (systemd.exec(5)).
    """
    link, around = path.lstat(), path.parent.stat()
    others_write = around.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if link.st_uid != 0 or around.st_uid != 0 or others_write:
        raise _link(path)
    return path.resolve(strict=True)


def _link(path: Path) -> StoreError:
    return StoreError(
        f"{path} is a symbolic link, and those are not followed. "
        "Remove it, or name a folder of its own with --state-dir."
    )
