"""The ends of victims, by pidfds: for a source whose kernel side tells of kills alone.

A pidfd becomes readable when its process has exited. The exit code of a process that is not one's
own child comes from the kernel since 6.15, once its parent has reaped it (PIDFD_GET_INFO with
PIDFD_INFO_EXIT, include/uapi/linux/pidfd.h). Where it does not come, no end is told: a code that
was not seen would be a guess.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from otel_oom.clock import boottime_ns
from otel_oom.event import VictimExit

MOST: Final = 64
"""How many victims are waited for; for one more the oldest is let go."""

_INFO: Final = struct.Struct("=QQ11Ii")
"""``struct pidfd_info`` as first published: mask, cgroupid, eleven ids, exit_code."""
_GET_INFO: Final = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
"""``_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)``"""
_INFO_EXIT: Final = 1 << 3


@dataclass(slots=True)
class _Waited:
    tgid: int
    started_ns: int
    ended_ns: int | None = None


class Exits:
    """Victims whose end is waited for, on somebody's epoll."""

    def __init__(self, epoll: select.epoll) -> None:
        """Wait by ``epoll``; nothing is waited for on a kernel that tells no codes."""
        self._epoll = epoll
        self._waited: dict[int, _Waited] = {}
        self.usable = _usable()
        """Whether this kernel can tell the exit code of a process that is not one's child."""

    def wait(self, tgid: int, started_ns: int, started: Callable[[int], int | None]) -> None:
        """Wait for that process; ``started`` looks up when the one of an id was started.

        A process that is gone already, or whose id is another's, is not waited for.
        """
        if not self.usable or any(victim.tgid == tgid for victim in self._waited.values()):
            return
        try:
            descriptor = os.pidfd_open(tgid)
        except OSError:
            return
        if started(tgid) != started_ns:
            os.close(descriptor)
            return
        while len(self._waited) >= MOST:
            self._let_go(next(iter(self._waited)))
        self._waited[descriptor] = _Waited(tgid, started_ns)
        self._epoll.register(descriptor, select.EPOLLIN)

    def ended(self) -> list[VictimExit]:
        """Those that have ended since, at the time at which that was seen here."""
        if not self._waited:
            return []
        found = []
        for descriptor, events in self._epoll.poll(0):
            victim = self._waited.get(descriptor)
            if victim is None:
                continue
            victim.ended_ns = victim.ended_ns or boottime_ns()
            code = _exit_code(descriptor)
            if code is not None:
                found.append(VictimExit(victim.tgid, victim.started_ns, victim.ended_ns, code))
            if code is not None or events & (select.EPOLLHUP | select.EPOLLERR):
                self._let_go(descriptor)
            else:
                # Not reaped: it stays readable, but hangs up only when it is.
                self._epoll.modify(descriptor, 0)
        return found

    def close(self) -> None:
        """Wait for nobody any more."""
        for descriptor in list(self._waited):
            self._let_go(descriptor)

    def _let_go(self, descriptor: int) -> None:
        del self._waited[descriptor]
        self._epoll.unregister(descriptor)
        os.close(descriptor)


def _usable() -> bool:
    try:
        descriptor = os.pidfd_open(os.getpid())
    except OSError:
        return False
    try:
        return _info(descriptor) is not None
    finally:
        os.close(descriptor)


def _exit_code(descriptor: int) -> int | None:
    info = _info(descriptor)
    return info[-1] if info and info[0] & _INFO_EXIT else None


def _info(descriptor: int) -> tuple[int, ...] | None:
    buffer = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(descriptor, _GET_INFO, buffer)
    except OSError:
        return None
    return _INFO.unpack(buffer)
