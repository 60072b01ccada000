"""The kernel log as a source: it needs no BPF, no BTF, and no privilege but to read the log.

Events have what the kernel prints, which is thread ids. The process of a thread, and its other
details, are read from /proc at once; they are unknown if the thread is gone by then.
"""

from __future__ import annotations

import select
from collections import deque
from pathlib import Path
from typing import Final, Self

from otel_oom.capture.kmsg import SOURCE
from otel_oom.capture.kmsg.clock import LogClock
from otel_oom.capture.kmsg.exit_watcher import ExitWatcher
from otel_oom.capture.kmsg.kill_count_watch import KillCountWatch
from otel_oom.capture.kmsg.open_log import open_kernel_log
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
from otel_oom.model.events import CapturedEvent, OomKill, ReaperStep
from otel_oom.model.loss import LostEvents

_MAX_RECORDS: Final = 1 << 14
"""Records that one drain reads; more stay in the log, which stays readable."""
_MAX_VICTIMS: Final = 256


class KmsgSource:
    """Events from the kernel log; see :class:`otel_oom.capture.source.Source`.

    Times are those of the log, converted by :class:`~otel_oom.capture.kmsg.clock.LogClock`. Exits
    are captured by :mod:`~otel_oom.capture.kmsg.exit_watcher`, for victims that still exist when
    their line is read. By syslog(2), which nothing can wait for, the log is read when the kernel's
    count of kills rises.
    """

    name = SOURCE
    hook = decision_source = KmsgReader.source
    pinned = False

    def __init__(self, device: Path = DEVICE, proc: Path = Path("/proc")) -> None:
        """Prepare; the log is opened when the context is entered."""
        self._device = device
        self._proc = proc

    def __enter__(self) -> Self:
        """Open the log at its end.

        Raises:
            CaptureError: the log can't be read here.
        """
        self._reader = open_kernel_log(self._device)
        self.hook = self.decision_source = self._reader.source
        self._parser = KernelLogParser()
        self._clock = LogClock()
        self._processes = ProcessLookup(self._proc)
        self._builder = EventBuilder(clock.boot_id(), self.name, self.hook, self._processes)
        self._epoll = select.epoll()
        self._count_watch: KillCountWatch | None = None
        if isinstance(self._reader, KmsgReader):
            self._epoll.register(self._reader, select.EPOLLIN)
        else:
            self._count_watch = KillCountWatch()
            self._epoll.register(self._count_watch, select.EPOLLIN)
        self._exits = ExitWatcher(self._epoll, self._processes)
        self._victims: dict[int, tuple[int, int | None]] = {}
        self._pending: deque[CapturedEvent] = deque()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log and the watched exits."""
        self._exits.close()
        self._epoll.close()
        if self._count_watch:
            self._count_watch.close()
        self._reader.close()

    def fileno(self) -> int:
        """Return an epoll descriptor, readable when the log has more or a victim has exited."""
        return self._epoll.fileno()

    def drain(self, handler: Handler) -> int:
        """Pass all pending events to ``handler``; see :meth:`Source.drain`.

        When ``handler`` raises, its event is the first of the next call; the lines after it stay in
        the kernel log.

        Raises:
            Exception: whatever ``handler`` raised.
            OSError: the log can't be read any more.
        """
        count = self._handle_pending(handler)
        if self._count_watch is None or self._count_watch.has_news() or self._reader.has_unread:
            count += self._read_lines(handler)
        self._pending.extend(self._exits.poll())
        return count + self._handle_pending(handler)

    def _read_lines(self, handler: Handler) -> int:
        count = 0
        for line in self._reader.read_lines(_MAX_RECORDS):
            self._clock.update(line.time_ns)
            event = self._parser.feed(line)
            if event is not None:
                self._add_event(event)
                count += self._handle_pending(handler)
        return count

    def lost_events(self) -> LostEvents:
        """Return how many lines of any kind were overwritten unread; by syslog(2), how often."""
        return LostEvents(log_lines=self._reader.lost)

    def _handle_pending(self, handler: Handler) -> int:
        count = 0
        while self._pending:
            handler(self._pending[0])
            self._pending.popleft()
            count += 1
        return count

    def _add_event(self, event: LogEvent) -> None:
        if isinstance(event, Report):
            self._builder.prefetch(event)
            return
        if isinstance(event, DuplicateKillLine):
            return
        boottime_ns = self._clock.to_boottime(event.line.time_ns)
        if isinstance(event, LoggedReaping):
            victim = self._victims.get(event.parsed.pid)
            if victim:
                step = ReaperStep(*victim, boottime_ns, "finish", event.parsed.resident)
                self._pending.append(step)
            return
        offset_ns = clock.boot_to_unix_offset_ns()
        if isinstance(event, LoggedNoVictim):
            no_victim = self._builder.build_no_victim(event, boottime_ns, offset_ns)
            if no_victim:
                self._pending.append(no_victim)
            return
        kill = self._builder.build_kill(event, boottime_ns, offset_ns)
        self._pending.append(kill)
        if not kill.skipped:
            self._watch_victim(kill)

    def _watch_victim(self, kill: OomKill) -> None:
        """Watch for the victim's exit, and keep its ids for the line of its reaping."""
        victim = kill.victim
        if victim.tgid is None:
            return
        if len(self._victims) >= _MAX_VICTIMS:
            del self._victims[next(iter(self._victims))]
        self._victims[victim.tid or victim.tgid] = victim.tgid, victim.start_boottime_ns
        start_ns = victim.start_boottime_ns
        self._exits.add(victim.tgid, start_ns, lambda: self._processes.is_victim(kill))
