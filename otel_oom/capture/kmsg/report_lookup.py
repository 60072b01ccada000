"""The kernel log's reports of kills that another source captures."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.capture.kmsg import SOURCE
from otel_oom.capture.kmsg.clock import LogClock
from otel_oom.capture.kmsg.open_log import open_kernel_log
from otel_oom.capture.kmsg.reader import DEVICE
from otel_oom.capture.source import AnnotateKill, CaptureError, Source
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import (
    LoggedKill,
    Report,
    build_oom_control,
    build_task_list,
)
from otel_oom.model.events import OomKill
from otel_oom.model.types import OomControl

_LOG = logging.getLogger(__name__)

_MAX_LINES: Final = 8192
"""Bound of a reading on the path of a kill. A report of 80 lines takes 1 ms."""
_MAX_BACKLOG_LINES: Final = 1 << 18
_MAX_REPORTS: Final = 64
_SLOW_S: Final = 0.02
"""A reading that takes longer, as of 2 MiB by syslog(2), takes half of the time at most.

So a storm of kills is not held up; some of them may lack a report.
"""
_MAX_AGE_NS: Final = 60_000_000_000
"""A slow console delays the mark after its report; an older report is of another process."""


class _Entry(Struct, frozen=True):
    """A report, and the kill that it led to, once that is logged."""

    report: Report
    kill: LoggedKill | None = None

    @property
    def text(self) -> str | None:
        return self.kill.text if self.kill else self.report.text

    def decision(self, source: str) -> OomControl:
        message = self.kill.parsed.message if self.kill else None
        return build_oom_control(self.report, message, source)


class OomReportIndex:
    """Reports of the kernel log by victim.

    A report is printed before its victim is marked, so it is there when the mark is read; the
    "Killed process" line comes right after. The kernel prints no report for more than 10 kills in
    5 s, nor for the rest of a group.
    """

    def __init__(self, device: Path = DEVICE) -> None:
        self._device = device

    def __enter__(self) -> Self:
        """Open the log, and read the reports that it has by now.

        The source has captured for a while: the report of a kill may be among them.

        Raises:
            CaptureError: the log can't be read here.
        """
        self._reader = open_kernel_log(self._device, from_start=True)
        self.source = self._reader.source
        self._lost = 0
        self._resume_at = 0.0
        self._parser = KernelLogParser()
        self._clock = LogClock()
        self._entries: dict[int, _Entry] = {}
        self._last: OomKill | None = None
        # A long reading at the first kill would leave the next kills without their reports.
        self._read_backlog()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log."""
        self._reader.close()

    def annotate(self, kill: OomKill) -> OomKill:
        """Return ``kill`` with what the log has of it: report, task table and missing decision.

        Reads what the log has by now, and never waits. Each report annotates one kill. Nothing is
        raised: a kill without its report is better than none.
        """
        try:
            kill = self._annotated(kill)
        except Exception:  # noqa: BLE001  whatever it was, the kill comes first
            _LOG.exception("Could not read the kernel log's report of an OOM kill")
        self._last = kill
        return kill

    def _annotated(self, kill: OomKill) -> OomKill:
        last = self._last
        if kill.incident and last and kill.incident in {last.uid, last.incident}:
            return replace(kill, decision=kill.decision or last.decision)
        entry = self._pop(kill)
        if entry is None:
            return kill
        return replace(
            kill,
            decision=kill.decision or entry.decision(self.source),
            original=entry.text,
            tasks=build_task_list(entry.report, entry.kill, kill.boottime_ns),
        )

    def _pop(self, kill: OomKill) -> _Entry | None:
        """Remove and return the report, which names the marked thread or its process."""
        self._read()
        tgid = kill.victim.tgid or 0
        entry = self._entries.pop(kill.victim.tid or tgid, None) or self._entries.pop(tgid, None)
        if entry is None:
            return None
        # Times by the log are late rather than early.
        printed_ns = self._clock.to_boottime(entry.report.time_ns)
        return None if kill.boottime_ns - printed_ns > _MAX_AGE_NS else entry

    def _read(self) -> None:
        if time.monotonic() < self._resume_at:
            return
        begin_s = time.thread_time()
        self._read_new()
        spent_s = time.thread_time() - begin_s
        if spent_s > _SLOW_S:
            self._resume_at = time.monotonic() + spent_s

    def _read_backlog(self) -> None:
        try:
            self._read_new(_MAX_BACKLOG_LINES)
        except OSError as error:
            self._reader.close()
            raise CaptureError(f"The kernel log can't be read: {error.strerror}") from error

    def _read_new(self, max_lines: int = _MAX_LINES) -> None:
        for line in self._reader.read_lines(max_lines):
            self._clock.update(line.time_ns)
            event = self._parser.feed(line)
            if isinstance(event, Report):
                self._add(event)
            elif isinstance(event, LoggedKill) and event.report and not event.first_of_group:
                self._complete(event.report, event)
        if self._reader.lost != self._lost:
            self._lost = self._reader.lost
            _LOG.warning(
                "Kernel log: lines were overwritten, or cleared (dmesg -C), before they were read: "
                "reports of kills may be missing. A larger buffer helps: boot with log_buf_len=4M"
            )

    def _add(self, report: Report) -> None:
        if report.chosen is None:
            return
        pid = report.chosen.pid
        self._entries.pop(pid, None)
        if len(self._entries) >= _MAX_REPORTS:
            del self._entries[next(iter(self._entries))]
        self._entries[pid] = _Entry(report)

    def _complete(self, report: Report, kill: LoggedKill) -> None:
        if report.chosen and report.chosen.pid in self._entries:
            self._entries[report.chosen.pid] = _Entry(report, kill)


@contextmanager
def open_report_index(source: Source) -> Iterator[AnnotateKill]:
    """Open the kernel log beside an attached ``source``; yield what annotates its kills.

    Kills stay as they are if the source reads the log itself, or if the log can't be read.
    """
    if source.name == SOURCE:
        yield _unchanged
        return
    with ExitStack() as opened:
        try:
            index = opened.enter_context(OomReportIndex())
        except CaptureError as error:
            missing = "reports" if source.decision_source else "reports and decisions"
            _LOG.warning(
                "Kernel log unavailable; kills are recorded without %s: %s", missing, error
            )
            yield _unchanged
            return
        _LOG.info("Reports of OOM kills are read from the kernel log, %s", index.source)
        yield index.annotate


def _unchanged(kill: OomKill) -> OomKill:
    return kill
