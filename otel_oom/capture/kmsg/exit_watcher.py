"""Watch for the exits of victims by pidfd, for a source without exit events.

A pidfd becomes readable when the last thread of its process has exited. /proc has the exit code
until the parent has waited for it. From then on the kernel has it since 6.15 (PIDFD_GET_INFO with
PIDFD_INFO_EXIT, include/uapi/linux/pidfd.h); before, the exit has no code.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.pidfd import read_exit_code, read_namespaced_pids
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import VictimExit

MAX_VICTIMS: Final = 64
"""Victims that are watched at once; for another one the oldest is dropped."""


class _Victim(Struct, frozen=True):
    tgid: int
    start_boottime_ns: int | None


class ExitWatcher:
    """Victims whose exit is awaited, on the caller's epoll."""

    def __init__(self, epoll: select.epoll, processes: ProcessLookup) -> None:
        """Watch by ``epoll``; ``processes`` identifies the process that has an id now."""
        self._epoll = epoll
        self._processes = processes
        self._victims: dict[int, _Victim] = {}

    def add(
        self,
        tgid: int,
        start_boottime_ns: int | None,
        is_same: Callable[[], bool] | None = None,
    ) -> bool:
        """Watch a process; return false if it is gone already.

        ``is_same`` says whether the process that has the id now is that one. By default, it must
        have the same start, whose read refers to its memory.
        """
        if any(victim.tgid == tgid for victim in self._victims.values()):
            return True
        try:
            descriptor = os.pidfd_open(tgid)
        except OSError:
            return False
        # Looked up after the opening, so that both are of one process.
        if not (is_same() if is_same else self._has_start(tgid, start_boottime_ns)):
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
            # It has exited, and has no memory. The pidfd has the code once /proc has not.
            code = self._processes.exit_code(victim.tgid)
            if not read_namespaced_pids(descriptor):
                code = read_exit_code(descriptor)
            exits.append(VictimExit(victim.tgid, victim.start_boottime_ns, now_ns, code))
            self._drop(descriptor)
        return exits

    def close(self) -> None:
        """Drop all victims."""
        for descriptor in list(self._victims):
            self._drop(descriptor)

    def _has_start(self, tgid: int, start_boottime_ns: int | None) -> bool:
        return self._processes.start_boottime_ns(tgid) == start_boottime_ns

    def _drop(self, descriptor: int) -> None:
        del self._victims[descriptor]
        self._epoll.unregister(descriptor)
        os.close(descriptor)
