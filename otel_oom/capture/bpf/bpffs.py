"""bpffs, the file system in which BPF objects outlive the process that made them."""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import Final

from otel_oom.capture.source import PIN_DIR

BPFFS: Final = Path("/sys/fs/bpf")
"""Where systemd mounts it, and everybody looks for it."""

_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NOSUID_NODEV_NOEXEC: Final = 2 | 4 | 8
_OPTIONS: Final = b"mode=700"


class BpffsError(Exception):
    """Nothing can be pinned there; the message says why and what to do."""


def is_bpffs(folder: Path) -> bool:
    """Whether ``folder``, or what there is of it, is in a bpffs.

    statvfs(3) does not tell the type of a file system; its device does, by proc_pid_mountinfo(5).
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in _MOUNTINFO.read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[2] == number:
            return after.startswith("bpf ")
    return False


def prepare(folder: Path) -> None:
    """Make ``folder`` in bpffs, which is mounted at its usual place if it is not.

    Raises:
        BpffsError: it can't be made there, or others might write into it.
    """
    try:
        if not is_bpffs(folder):
            _mount(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BpffsError(f"{folder} can't be made ({error.strerror})") from error
    _distrust(folder)


def _mount(folder: Path) -> None:
    if not folder.is_relative_to(BPFFS):
        raise BpffsError(
            f"{folder} is not in a bpffs. Name a folder in one with --pin-dir, such as {PIN_DIR}"
        )
    target = os.fsencode(BPFFS)
    if _LIBC.mount(b"bpf", target, b"bpf", _NOSUID_NODEV_NOEXEC, _OPTIONS) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise BpffsError(
            f"there is no bpffs at {BPFFS}, and it can't be mounted ({reason}). "
            f"Mount it: mount -t bpf bpf {BPFFS}"
        )


def _distrust(folder: Path) -> None:
    """See that nobody else can put objects of their own in the place of ours.

    A bpffs that was mounted without options is everybody's to write into.
    """
    mine = {0, os.geteuid()}
    folder = folder.resolve()
    device = folder.stat().st_dev
    place = folder
    while place.stat().st_dev == device:
        found = place.stat()
        others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        # In a sticky folder others can add names, and not take ours away.
        sticky = found.st_mode & stat.S_ISVTX and place != folder
        if found.st_uid not in mine or (others_write and not sticky):
            raise BpffsError(f"others may write into {place}: remove it, or take their right away")
        if place == place.parent:
            return
        place = place.parent
