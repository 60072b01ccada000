"""The kernel's log as what tells of decisions, beside another source that tells of kills."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from msgspec.structs import replace

from otel_oom.capture.kmsg.clock import LogClock
from otel_oom.capture.kmsg.reader import DEVICE, KmsgReader
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import (
    LoggedKill,
    Report,
    build_oom_control,
    build_task_list,
)
from otel_oom.model.events import OomKill
from otel_oom.model.types import OomControl

_MOST_LINES: Final = 8192
"""More than the log of a usual kernel holds. A report of 80 lines takes 1 ms."""
_MOST_KEPT: Final = 64
_MOST_AGE_NS: Final = 60_000_000_000
"""A slow console holds a mark up behind the line before it; after that time it is another's."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A report, and the kill that it led to, once that is logged."""

    report: Report
    kill: LoggedKill | None = None

    @property
    def text(self) -> str | None:
        return self.kill.text if self.kill else self.report.text


class OomReportIndex:
    """Decisions by their victim, for kernels that allow no hook where they are made.

    The report is printed before the victim is marked, so it is there when the mark is read; the
    "Killed process" line comes right after. There is none for a kill whose report the kernel left
    out (10 in 5 s), nor for the rest of a group.
    """

    hook = "/dev/kmsg"

    def __init__(self, device: Path = DEVICE, *, from_start: bool = False) -> None:
        """Prepare; the log is opened when the context is entered.

        ``from_start`` is for victims of before that: it is read from its beginning.
        """
        self._device = device
        self._from_start = from_start

    def __enter__(self) -> Self:
        """Begin at the end of the log, or at its beginning.

        Raises:
            CaptureError: the log can't be read here.
        """
        self._reader = KmsgReader(self._device, from_start=self._from_start)
        self._parser = KernelLogParser()
        self._clock = LogClock()
        self._kept: dict[int, _Kept] = {}
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log."""
        self._reader.close()

    def decision_of(self, victim_tid: int, victim_tgid: int, boottime_ns: int) -> OomControl | None:
        """The decision that fell on this victim, marked at that time of CLOCK_BOOTTIME.

        Chosen is a process, marked is a thread of it. A decision is told once. Reads what the log
        has by now and never waits.

        Raises:
            OSError: the log can't be read any more.
        """
        kept = self._take(victim_tid, victim_tgid, boottime_ns)
        return self._decision(kept) if kept else None

    def completed(self, kill: OomKill) -> OomKill:
        """``kill`` with what the log has of its decision, as :meth:`decision_of`.

        Its own line is in ``original`` if it is logged by now, which is after the mark.

        Raises:
            OSError: the log can't be read any more.
        """
        tgid = kill.victim.tgid or 0
        kept = self._take(kill.victim.tid or tgid, tgid, kill.boottime_ns)
        if kept is None:
            return kill
        return replace(
            kill,
            decision=self._decision(kept),
            original=kept.text,
            tasks=build_task_list(kept.report, kept.kill, kill.boottime_ns),
        )

    def _take(self, victim_tid: int, victim_tgid: int, boottime_ns: int) -> _Kept | None:
        self._read()
        kept = self._kept.pop(victim_tid, None) or self._kept.pop(victim_tgid, None)
        if kept is None:
            return None
        # Times read off the log are late rather than early.
        printed_ns = self._clock.boottime_of(kept.report.time_ns)
        return None if boottime_ns - printed_ns > _MOST_AGE_NS else kept

    def _decision(self, kept: _Kept) -> OomControl:
        return build_oom_control(
            kept.report, kept.kill.parsed.message if kept.kill else None, self.hook
        )

    def _read(self) -> None:
        for line in self._reader.read_lines(_MOST_LINES):
            self._clock.note(line.time_ns)
            event = self._parser.feed(line)
            if isinstance(event, Report):
                self._keep(event)
            elif isinstance(event, LoggedKill) and event.report and not event.first_of_group:
                self._name(event.report, event)

    def _keep(self, report: Report) -> None:
        if report.chosen is None:
            return
        pid = report.chosen.pid
        self._kept.pop(pid, None)
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[pid] = _Kept(report)

    def _name(self, report: Report, kill: LoggedKill) -> None:
        if report.chosen and report.chosen.pid in self._kept:
            self._kept[report.chosen.pid] = _Kept(report, kill)
