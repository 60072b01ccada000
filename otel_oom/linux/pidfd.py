"""What a pidfd says about its process, without a reference to the memory of that.

``PIDFD_GET_INFO`` reads ids and credentials (pidfd_info(), fs/pidfs.c). ``/proc/self/fdinfo`` reads
the ids of the pidfd alone (pidfd_show_fdinfo()).
"""

from __future__ import annotations

import fcntl
import struct
from typing import Final

from msgspec import Struct

from otel_oom.linux import procfs

_FDINFO_BYTES: Final = 1024
_INFO: Final = struct.Struct("=QQ11Ii")
"""``struct pidfd_info`` as first published: mask, cgroupid, eleven ids, exit_code."""
_GET_INFO: Final = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
"""``_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)``"""
_INFO_PID: Final = 1 << 0
_INFO_CREDS: Final = 1 << 1
_INFO_EXIT: Final = 1 << 3


class ProcessIds(Struct, frozen=True):
    """The parent of a process, its real uid and its real gid."""

    ppid: int
    uid: int
    gid: int


def read_ids(pidfd: int) -> ProcessIds | None:
    """Return the ids of a process that exists; ``None`` before Linux 6.13."""
    mask, *numbers = _read_info(pidfd, _INFO_PID | _INFO_CREDS)
    if not mask & _INFO_PID or not mask & _INFO_CREDS:
        return None
    _, _, _, ppid, uid, gid, *_ = numbers
    return ProcessIds(ppid, uid, gid)


def read_exit_code(pidfd: int) -> int | None:
    """Return the code of a process that its parent has waited for; ``None`` before 6.15."""
    mask, *_, code = _read_info(pidfd, _INFO_EXIT)
    return code if mask & _INFO_EXIT else None


def read_namespaced_pids(pidfd: int) -> tuple[int, ...]:
    """Return the pid in each PID namespace, the initial one first; empty once it is released."""
    text = procfs.read_text(f"/proc/self/fdinfo/{pidfd}", _FDINFO_BYTES) or ""
    for line in text.split("\n"):
        name, _, words = line.partition(":\t")
        if name == "NSpid":
            return tuple(int(word) for word in words.split("\t") if word.isdecimal())
    return ()


def _read_info(pidfd: int, wanted: int) -> tuple[int, ...]:
    buffer = bytearray(_INFO.pack(wanted, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
    except OSError:
        return (0,) * 14
    return _INFO.unpack(buffer)
