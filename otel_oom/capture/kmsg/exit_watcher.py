"""Watch for the exits of victims by pidfd, for a source without exit events.

A pidfd becomes readable when the last thread of its process has exited. /proc has the exit code
until the parent has waited for it. From then on the kernel has it since 6.15 (PIDFD_GET_INFO with
PIDFD_INFO_EXIT, include/uapi/linux/pidfd.h); before, the exit has no code.
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
"""Victims that are watched at once; for another one the oldest is dropped."""

_INFO: Final = struct.Struct("=QQ11Ii")
"""``struct pidfd_info`` as first published: mask, cgroupid, eleven ids, exit_code."""
_GET_INFO: Final = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
"""``_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)``"""
_INFO_EXIT: Final = 1 << 3


@dataclass(frozen=True, slots=True)
class _Victim:
    tgid: int
    start_boottime_ns: int


class ExitWatcher:
    """Victims whose exit is awaited, on the caller's epoll."""

    def __init__(self, epoll: select.epoll, processes: ProcessLookup) -> None:
        """Watch by ``epoll``; ``processes`` identifies the process that has an id now."""
        self._epoll = epoll
        self._processes = processes
        self._victims: dict[int, _Victim] = {}

    def add(self, tgid: int, start_boottime_ns: int) -> bool:
        """Watch a process; return false if it is gone already."""
        if any(victim.tgid == tgid for victim in self._victims.values()):
            return True
        try:
            descriptor = os.pidfd_open(tgid)
        except OSError:
            return False
        # Looked up after the opening, so that both are of one process.
        if self._processes.start_boottime_ns(tgid) != start_boottime_ns:
            os.close(descriptor)
            return False
        while len(self._victims) >= MAX_VICTIMS:
            self._drop(next(iter(self._victims)))
        self._victims[descriptor] = _Victim(tgid, start_boottime_ns)
        self._epoll.register(descriptor, select.EPOLLIN)
        return True

    def poll(self) -> list[VictimExit]:
        """Return the exits since the last call; their time is that of this call."""
        if not self._victims:
            return []
        exits = []
        for descriptor, _ in self._epoll.poll(0):
            victim = self._victims.get(descriptor)
            if victim is None:
                continue
            now_ns = boottime_ns()
            # The pidfd has the code once /proc does not have it any more.
            code = self._processes.exit_code(victim.tgid, victim.start_boottime_ns)
            if code is None:
                code = _read_exit_code(descriptor)
            exits.append(VictimExit(victim.tgid, victim.start_boottime_ns, now_ns, code))
            self._drop(descriptor)
        return exits

    def close(self) -> None:
        """Drop all victims."""
        for descriptor in list(self._victims):
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        del self._victims[descriptor]
        self._epoll.unregister(descriptor)
        os.close(descriptor)


def _read_exit_code(descriptor: int) -> int | None:
    """Return the code of a process that its parent has waited for; ``None`` before 6.15."""
    buffer = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(descriptor, _GET_INFO, buffer)
    except OSError:
        return None
    mask, *_, code = _INFO.unpack(buffer)
    return int(code) if mask & _INFO_EXIT else None
