"""The ends of victims, by pidfds: for a source whose kernel side tells of kills alone.

A pidfd becomes readable when the last thread of its process has exited. With which code, /proc
tells until the parent has waited for it, and from then on the kernel since 6.15 (PIDFD_GET_INFO
with PIDFD_INFO_EXIT, include/uapi/linux/pidfd.h). Where neither does, the end is told without it.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
from dataclasses import dataclass
from typing import Final

from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import VictimExit

MAX_VICTIMS: Final = 64
"""How many victims are waited for; for one more the oldest is let go."""

_INFO: Final = struct.Struct("=QQ11Ii")
"""``struct pidfd_info`` as first published: mask, cgroupid, eleven ids, exit_code."""
_GET_INFO: Final = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
"""``_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)``"""
_INFO_EXIT: Final = 1 << 3


@dataclass(frozen=True, slots=True)
class _Waited:
    tgid: int
    started_ns: int


class ExitWatcher:
    """Victims whose end is waited for, on somebody's epoll."""

    def __init__(self, epoll: select.epoll, processes: ProcessLookup) -> None:
        """Wait by ``epoll``; ``processes`` tell whose a process id is now."""
        self._epoll = epoll
        self._processes = processes
        self._waited: dict[int, _Waited] = {}

    def add(self, tgid: int, started_ns: int) -> None:
        """Wait for the process of that id and start.

        One that is gone already, or whose id is another's, is not waited for.
        """
        if any(victim.tgid == tgid for victim in self._waited.values()):
            return
        try:
            descriptor = os.pidfd_open(tgid)
        except OSError:
            return
        # Looked up behind the opening: so both are of one process.
        if self._processes.start_boottime_ns(tgid) != started_ns:
            os.close(descriptor)
            return
        while len(self._waited) >= MAX_VICTIMS:
            self._let_go(next(iter(self._waited)))
        self._waited[descriptor] = _Waited(tgid, started_ns)
        self._epoll.register(descriptor, select.EPOLLIN)

    def poll(self) -> list[VictimExit]:
        """Those that have ended since, at the time at which that was seen here."""
        if not self._waited:
            return []
        found = []
        for descriptor, _ in self._epoll.poll(0):
            victim = self._waited.get(descriptor)
            if victim is None:
                continue
            now = boottime_ns()
            # What /proc has no more, the pidfd has already.
            code = self._processes.exit_code(victim.tgid, victim.started_ns)
            if code is None:
                code = _exit_code(descriptor)
            found.append(VictimExit(victim.tgid, victim.started_ns, now, code))
            self._let_go(descriptor)
        return found

    def close(self) -> None:
        """Wait for nobody any more."""
        for descriptor in list(self._waited):
            self._let_go(descriptor)

    def _let_go(self, descriptor: int) -> None:
        del self._waited[descriptor]
        self._epoll.unregister(descriptor)
        os.close(descriptor)


def _exit_code(descriptor: int) -> int | None:
    """The code of a process that its parent has waited for; ``None`` before 6.15."""
    buffer = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(descriptor, _GET_INFO, buffer)
    except OSError:
        return None
    mask, *_, code = _INFO.unpack(buffer)
    return int(code) if mask & _INFO_EXIT else None
