"""The kernel's log as a source of its own: no BPF, no BTF, no privilege but to read it.

What it tells is what the kernel prints. It names threads: which process one is of, and what else
there is to a process, is read from /proc at once, and unknown if the thread is gone by then.
"""

from __future__ import annotations

import select
from collections import deque
from pathlib import Path
from typing import Final, Self

from otel_oom.capture.kmsg.clock import LogClock
from otel_oom.capture.kmsg.exit_watcher import ExitWatcher
from otel_oom.capture.kmsg.reader import DEVICE, KmsgReader
from otel_oom.capture.source import Handler
from otel_oom.linux import clock
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import (
    DuplicateKillLine,
    LogEvent,
    LoggedNoVictim,
    LoggedReaping,
    Report,
)
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import CapturedEvent, LostEvents, OomKill, ReaperStep

_MOST_LINES: Final = 1 << 14
"""How many records one drain looks at; more stay in the log, which stays readable."""
_MOST_VICTIMS: Final = 256


class KmsgSource:
    """Kills out of /dev/kmsg; see :class:`otel_oom.capture.source.Source`.

    Times are those of the log, mapped by :class:`~otel_oom.capture.kmsg.clock.LogClock`. The end
    of a victim is from :mod:`~otel_oom.capture.kmsg.exit_watcher`, if it was still there when it
    was named.
    """

    name = "kmsg"
    hook = decision_source = "/dev/kmsg"
    pinned = False

    def __init__(self, device: Path = DEVICE, proc: Path = Path("/proc")) -> None:
        """Prepare; the log is opened when the context is entered."""
        self._device = device
        self._proc = proc

    def __enter__(self) -> Self:
        """Begin at the end of the log.

        Raises:
            CaptureError: the log can't be read here.
        """
        self._reader = KmsgReader(self._device)
        self._parser = KernelLogParser()
        self._clock = LogClock()
        self._processes = ProcessLookup(self._proc)
        self._events = EventBuilder(clock.boot_id(), self.name, self.hook, self._processes)
        self._epoll = select.epoll()
        self._epoll.register(self._reader, select.EPOLLIN)
        self._exits = ExitWatcher(self._epoll, self._processes)
        self._victims: dict[int, tuple[int, int | None]] = {}
        self._waiting: deque[CapturedEvent] = deque()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log and what is waited for."""
        self._exits.close()
        self._epoll.close()
        self._reader.close()

    def fileno(self) -> int:
        """An epoll descriptor that is readable when the log has more or a victim has ended."""
        return self._epoll.fileno()

    def drain(self, handler: Handler) -> int:
        """Hand over all events that wait; see :meth:`Source.drain`.

        When ``handler`` raises, the event comes first at the next call; the lines behind it stay
        in the kernel's log.

        Raises:
            Exception: whatever ``handler`` raised.
            OSError: the log can't be read any more.
        """
        taken = self._hand_over(handler)
        for line in self._reader.read_lines(_MOST_LINES):
            self._clock.note(line.time_ns)
            event = self._parser.feed(line)
            if event is not None:
                self._take(event)
                taken += self._hand_over(handler)
        self._waiting.extend(self._exits.poll())
        return taken + self._hand_over(handler)

    def lost_events(self) -> LostEvents:
        """How many lines of the log were overwritten unread, whatever they were about."""
        return LostEvents(log_lines=self._reader.lost)

    def _hand_over(self, handler: Handler) -> int:
        taken = 0
        while self._waiting:
            handler(self._waiting[0])
            self._waiting.popleft()
            taken += 1
        return taken

    def _take(self, event: LogEvent) -> None:
        if isinstance(event, LoggedReaping):
            self._reaped(event)
        elif isinstance(event, Report):
            self._events.prefetch(event)
        elif not isinstance(event, DuplicateKillLine):
            at = self._clock.boottime_of(event.line.time_ns)
            offset = clock.boot_to_unix_offset_ns()
            if isinstance(event, LoggedNoVictim):
                none = self._events.build_no_victim(event, at, offset)
                if none:
                    self._waiting.append(none)
                return
            kill = self._events.build_kill(event, at, offset)
            self._waiting.append(kill)
            if not kill.skipped:
                self._remember(kill)

    def _remember(self, kill: OomKill) -> None:
        """Wait for the victim's end, and know it again when it is reaped."""
        victim = kill.victim
        if victim.tgid is None:
            return
        if len(self._victims) >= _MOST_VICTIMS:
            del self._victims[next(iter(self._victims))]
        self._victims[victim.tid or victim.tgid] = victim.tgid, victim.start_boottime_ns
        if victim.start_boottime_ns is not None:
            self._exits.add(victim.tgid, victim.start_boottime_ns)

    def _reaped(self, event: LoggedReaping) -> None:
        victim = self._victims.get(event.parsed.pid)
        if victim is not None:
            at = self._clock.boottime_of(event.line.time_ns)
            self._waiting.append(ReaperStep(*victim, at, "finish", event.parsed.resident))
