"""bpffs, the file system in which BPF objects outlive the process that made them."""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import Final

from otel_oom.capture.source import PIN_DIR
from otel_oom.linux import launcher
from otel_oom.linux.procfs import read_mounts
from otel_oom.linux.rights import BPFFS, explain_refusal, read_apparmor_profile

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NOSUID_NODEV_NOEXEC: Final = 2 | 4 | 8
_OPTIONS: Final = b"mode=700"


class BpffsError(Exception):
    """Nothing can be pinned there; the message says why and what to do."""


def is_bpffs(folder: Path) -> bool:
    """Check that ``folder``, or its nearest existing parent, is in a bpffs.

    statvfs(3) does not report the type of a file system. Its device does, by
    proc_pid_mountinfo(5).
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    return any(each.device == number and each.file_system == "bpf" for each in read_mounts())


def make_pin_dir(folder: Path) -> None:
    """Make ``folder``; mount bpffs at its usual place first if it is not mounted.

    Raises:
        BpffsError: it can't be made there, or others could write into it.
    """
    try:
        if not is_bpffs(folder):
            _mount_bpffs(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        # AppArmor's refusals are logged as one.
        advice = "" if read_apparmor_profile() else explain_refusal(error, BPFFS)
        reason = f"{folder} can't be made ({error.strerror})"
        raise BpffsError(f"{reason}. {advice}" if advice else reason) from error
    _require_private(folder)


def _mount_bpffs(folder: Path) -> None:
    if not folder.is_relative_to(BPFFS):
        raise BpffsError(
            f"{folder} is not in a bpffs. Name a folder in one with --pin-dir, such as {PIN_DIR}"
        )
    target = os.fsencode(BPFFS)
    if _LIBC.mount(b"bpf", target, b"bpf", _NOSUID_NODEV_NOEXEC, _OPTIONS) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise BpffsError(
            f"there is no bpffs at {BPFFS}, and it can't be mounted ({reason}). {advise_bpffs()}"
        )


def advise_bpffs() -> str:
    """Return how to get a bpffs at its usual place."""
    if launcher.current_launcher().in_container:
        return f"{launcher.grant_path(BPFFS, writable=True)}; the host must have mounted it"
    return f"Mount it: mount -t bpf bpf {BPFFS}"


def _require_private(folder: Path) -> None:
    """Check that no other user can replace our objects with their own.

    A bpffs that was mounted without options is writable by all users.
    """
    trusted_uids = {0, os.geteuid()}
    folder = folder.resolve()
    device = folder.stat().st_dev
    for ancestor in (folder, *folder.parents):
        status = ancestor.stat()
        if status.st_dev != device:
            return
        others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        # In a sticky folder others can add names, but not remove ours.
        sticky = status.st_mode & stat.S_ISVTX and ancestor != folder
        if status.st_uid not in trusted_uids:
            raise BpffsError(
                f"{ancestor} is owned by uid {status.st_uid}, which could replace pins: "
                "chown it to root, or remove it"
            )
        if others_write and not sticky:
            raise BpffsError(
                f"{ancestor} is writable by group or others: chmod go-w it, or remove it"
            )
