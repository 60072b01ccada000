"""Open paths that others can shape: by links, pipes, devices, and files of any size.

Resolution stays below a root directory, and an object is opened only after its type is known:
opening a device can have effects, and opening a pipe can block.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final

_SYS_OPENAT2: Final = 437
"""The same number on all architectures (Documentation of openat2(2), Linux 5.6)."""
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10
_MAX_RACES: Final = 16
"""The kernel returns EAGAIN if a directory was renamed during the resolution of a ``..``."""
_MAX_LINKS: Final = 40
"""As in the kernel (MAXSYMLINKS of include/linux/namei.h)."""
_MAX_DEPTH: Final = 128

_ROOT: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""O_NONBLOCK: a lease of the file's owner (fcntl(2)) must not delay the open."""


class UntrustedFileError(OSError):
    """The path leads to something that is not opened; ``strerror`` says why."""


@contextmanager
def open_root(path: os.PathLike[str] | str) -> Iterator[int]:
    """Yield a descriptor of a directory that others do not choose, such as ``/proc/PID/root``.

    Raises OSError.
    """
    fd = os.open(path, _ROOT)
    try:
        yield fd
    finally:
        os.close(fd)


def open_untrusted(
    root: int,
    path: os.PathLike[str] | str,
    *,
    max_bytes: int | None = None,
    owner: int | None = None,
) -> int:
    """Open a regular file below ``root`` to read from; the caller closes it.

    Links of any kind are resolved as a process would whose root directory is ``root``.

    Args:
        root: a descriptor by :func:`open_root`.
        path: relative to ``root``, whether it begins with a slash or not.
        max_bytes: the largest size of the file. It can grow later: bound each read as well.
        owner: the uid that the file must have.

    Raises:
        UntrustedFileError: it is no such file.
        OSError: it can't be opened.
    """
    fd = _open_path(root, os.fspath(path))
    try:
        reason = _find_reason_against(os.fstat(fd), max_bytes, owner)
        if reason:
            raise UntrustedFileError(errno.EINVAL, reason, os.fspath(path))
        return _reopen(fd, path, _READ)
    finally:
        os.close(fd)


def open_untrusted_dir(root: int, path: os.PathLike[str] | str) -> int:
    """Open a directory below ``root`` to list it, as :func:`open_untrusted`."""
    fd = _open_path(root, os.fspath(path))
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise UntrustedFileError(errno.ENOTDIR, "not a directory", os.fspath(path))
        return _reopen(fd, path, _READ | os.O_DIRECTORY)
    finally:
        os.close(fd)


def list_untrusted_dir(
    root: os.PathLike[str] | str, path: os.PathLike[str] | str, max_names: int
) -> list[str]:
    """Return names in a directory below the directory ``root``; empty if it is not readable."""
    with suppress(OSError), open_root(root) as root_fd:
        fd = open_untrusted_dir(root_fd, path)
        try:
            with os.scandir(fd) as entries:
                return [entry.name for entry, _ in zip(entries, range(max_names), strict=False)]
        finally:
            os.close(fd)
    return []


def _reopen(fd: int, path: os.PathLike[str] | str, flags: int) -> int:
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _find_reason_against(
    status: os.stat_result, max_bytes: int | None, owner: int | None
) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_size == 0:
        # Files of procfs and tracefs have no size, and a read can consume what they return.
        return "empty, or a file of the kernel"
    if max_bytes is not None and status.st_size > max_bytes:
        return f"larger than {max_bytes} bytes"
    if owner is not None and status.st_uid != owner:
        return f"owned by uid {status.st_uid} instead of {owner}"
    return None


def _open_path(root: int, path: str) -> int:
    """Return a descriptor by O_PATH, which opens nothing yet."""
    if "\0" in path:
        raise UntrustedFileError(errno.EINVAL, "a NUL in its path", path)
    return _openat2(root, path) if _has_openat2() else walk_path(root, path)


class _OpenHow(ctypes.Structure):
    """``struct open_how`` (include/uapi/linux/openat2.h)."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW: Final = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _has_openat2() -> bool:
    """Call it: old kernels do not have it, and a container's seccomp filter can hide it."""
    try:
        with open_root("/") as root:
            os.close(_openat2(root, "."))
    except OSError:
        return False
    return True


def _openat2(root: int, path: str) -> int:
    encoded = os.fsencode(path) or b"."
    for _ in range(_MAX_RACES):
        fd = _libc().syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(root),
            ctypes.c_char_p(encoded),
            ctypes.byref(_HOW),
            ctypes.c_size_t(ctypes.sizeof(_HOW)),
        )
        if fd >= 0:
            return int(fd)
        error = ctypes.get_errno()
        if error not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(error, os.strerror(error), path)


def walk_path(root: int, path: str) -> int:
    """Resolve ``path`` below ``root`` without openat2(2), component by component.

    Each directory on the way stays open, so that a ``..`` cannot lead out of ``root`` in a race.
    """
    fds = [os.dup(root)]
    names = path.split("/")[::-1]
    links = 0
    try:
        while names:
            name = names.pop()
            if name == "..":
                if len(fds) > 1:
                    os.close(fds.pop())
            elif name not in ("", "."):
                fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fds[-1])
                fds.append(fd)
                if stat.S_ISLNK(os.fstat(fd).st_mode):
                    target = os.readlink("", dir_fd=fd)
                    links += 1
                    os.close(fds.pop())
                    while target.startswith("/") and len(fds) > 1:
                        os.close(fds.pop())
                    names += target.split("/")[::-1]
                if links > _MAX_LINKS or len(fds) > _MAX_DEPTH:
                    raise UntrustedFileError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return fds.pop()
    finally:
        for fd in fds:
            os.close(fd)
