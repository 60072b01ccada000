"""Relate the kill lines of one printing thread: announcements, groups, repetitions."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct, field

from otel_oom.linux.kernel_log.line_types import (
    ExitingVictim,
    KillAnnouncement,
    KilledProcess,
    Line,
    OomKillSummary,
)
from otel_oom.linux.kernel_log.report import DuplicateKillLine, LoggedKill, Report, find_tgid
from otel_oom.model.text import escape_controls
from otel_oom.model.units import NS_PER_S

_MAX_PENDING: Final = 4
_MAX_BARE: Final = 64
_MAX_DEAD: Final = 4096
_GROUP_NS: Final = 250_000_000
"""Longer than from one kill of a group to the next on a serial console.

In a log without threads, a kill without a report within that time counts as one of the group."""
_KILL_NS: Final = 10 * NS_PER_S
_KILL_LINES: Final = 256
"""Longest distance from an announcement to its kill: beyond it, the kill's own line was lost."""


class PendingKill(Struct, frozen=True):
    """An announcement or a choice without its kill yet, after ``line_count`` lines.

    ``is_cut``: lines behind it were lost.
    """

    line: Line
    announcement: KillAnnouncement | OomKillSummary
    report: Report
    line_count: int
    is_cut: bool = False

    def is_overdue(self, line: Line, line_count: int) -> bool:
        """Return whether the kill's own line was lost."""
        passed_ns = abs(line.time_ns - self.line.time_ns)
        return line_count - self.line_count > _KILL_LINES or passed_ns > _KILL_NS

    def to_kill(self) -> LoggedKill:
        """Return the kill by the announcement or the choice alone."""
        named = self.announcement
        if isinstance(named, KillAnnouncement):
            killed = KilledProcess(named.message, named.pid, named.comm)
        else:
            killed = KilledProcess(None, named.pid, named.comm, uid=named.uid)
        text = self.report.text or escape_controls(self.line.text)
        return LoggedKill(self.line, killed, self.report, text=text)


class KillTracker(Struct):
    """The last kills of one printing thread, or of all if the log does not record threads.

    ``_group`` are the dead processes of a group and ``_group_path`` is its cgroup. ``_bare`` are
    name and time of kills without sizes.
    """

    _pending: list[PendingKill] = []
    _last: LoggedKill | None = None
    _last_ns: int = 0
    _group: set[int] | None = None
    _group_path: str | None = None
    _bare: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=_MAX_BARE))

    def end_group(self) -> None:
        """End the group: a new report begins, and further kills are of another decision."""
        self._last, self._group = None, None

    def add_pending(self, pending: PendingKill) -> LoggedKill | None:
        """Wait for the kill of an announcement; return the oldest if there are too many."""
        self._pending.append(pending)
        return self._pending.pop(0).to_kill() if len(self._pending) > _MAX_PENDING else None

    def pop_pending(self, killed: KilledProcess | ExitingVictim) -> PendingKill | None:
        """Return the announcement of a kill: that of its pid, else the last, of its parent."""
        same = [each for each in self._pending if each.announcement.pid == killed.pid]
        announced = [
            each for each in self._pending if isinstance(each.announcement, KillAnnouncement)
        ]
        pending = same[0] if same else announced[-1] if announced else None
        if pending:
            self._pending.remove(pending)
        return pending

    def pop_lost(self, line: Line | None = None, line_count: int = 0) -> list[LoggedKill]:
        """Return the kills whose own line was lost: those overdue at ``line``, or all."""
        if not self._pending:
            return []
        lost = [each for each in self._pending if not line or each.is_overdue(line, line_count)]
        self._pending = [each for each in self._pending if each not in lost]
        return [each.to_kill() for each in lost]

    def is_repetition(self, killed: KilledProcess, line: Line) -> bool:
        """Return whether a kill without a pid repeats one; remember those without sizes."""
        if killed.pid is None:
            for each in self._bare:
                comm, time_ns = each
                if comm == killed.comm and abs(line.time_ns - time_ns) < _KILL_NS:
                    self._bare.remove(each)
                    return True
        if killed.memory is None:
            self._bare.append((killed.comm, line.time_ns))
        return False

    def add_kill(self, kill: LoggedKill) -> LoggedKill:
        """Remember the kill that a group may begin with; return it."""
        self._last, self._last_ns, self._group = kill, kill.line.time_ns, None
        return kill

    def begin_group(self, line: Line, path: str | None) -> None:
        """Begin the group of the last kill: the other members of the cgroup ``path`` follow."""
        if self._last and self._is_soon(line):
            self._group, self._last_ns = _dead_processes(self._last), line.time_ns
            self._group_path = path

    def is_in_group(self, line: Line) -> bool:
        """Return whether a kill without a report is one of the last kill's group."""
        return self._group is not None and self._is_soon(line)

    def add_member(
        self, line: Line, parsed: KilledProcess | ExitingVictim
    ) -> LoggedKill | DuplicateKillLine | None:
        """Return a kill of the group: a thread of a dead process is a duplicate."""
        if self._last is None or self._group is None:
            return None
        self._last_ns = line.time_ns
        if isinstance(parsed, ExitingVictim) or parsed.pid is None:
            return None
        first = self._last
        tgid = find_tgid(first.report, parsed.pid)
        if tgid in self._group:
            return DuplicateKillLine(line)
        if len(self._group) < _MAX_DEAD:
            self._group.add(tgid)
        text = escape_controls(line.text)
        return LoggedKill(line, parsed, first.report, first, self._group_path, text)

    def _is_soon(self, line: Line) -> bool:
        return self._last is not None and 0 <= line.time_ns - self._last_ns < _GROUP_NS


def _dead_processes(kill: LoggedKill) -> set[int]:
    if not isinstance(kill.parsed, KilledProcess):
        return set()
    summary = kill.report.summary if kill.report else None
    dead = {summary.pid} if summary else set()
    if kill.parsed.pid is not None:
        dead.add(find_tgid(kill.report, kill.parsed.pid))
    return dead


def is_kill_of(report: Report, parsed: KilledProcess | ExitingVictim) -> bool:
    """Return whether a kill fits a report, which names the process and not its thread."""
    summary = report.summary
    if summary is None or parsed.pid == summary.pid:
        return True
    if parsed.pid is not None and find_tgid(report, parsed.pid) == summary.pid:
        return True
    return isinstance(parsed, KilledProcess) and parsed.uid == summary.uid
