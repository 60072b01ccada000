"""What a kernel's log tells of OOM kills, joined: reports, kills, and what is no kill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otel_oom.linux.kernel_log.line_types import (
    Exiting,
    Invoked,
    KillAnnouncement,
    Killed,
    Line,
    OomKillSummary,
    Reaped,
)
from otel_oom.linux.kernel_log.task_table import Table
from otel_oom.model.types import Memcg, MemcgUsage, OomControl

_OF_MEMCG: Final = "Memory cgroup out of memory"
"""How oom_kill_process() begins its line when, and only when, a cgroup's limit was hit."""
_OF_MESSAGE: Final = (
    (_OF_MEMCG, "memcg"),
    ("No available memory (MPOL_BIND)", "memory_policy"),
    ("No available memory in cpuset", "cpuset"),
)
"""What the line of a kill tells of what bounded the choice, where no other line does."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was logged of one want of memory before anyone died; any part may be missing.

    ``stack`` runs from the decision outwards. ``tid`` is the thread that asked for memory.
    ``task_memcg`` is the victim's cgroup and ``asking_memcg`` that of who asked; ``text`` is the
    report as it was logged.
    """

    invoked: Invoked | None = None
    tid: int | None = None
    stack: tuple[str, ...] = ()
    limits: MemcgUsage | None = None
    limit_of: str | None = None
    task_memcg: str | None = None
    asking_memcg: str | None = None
    table: Table | None = None
    chosen: OomKillSummary | None = None
    choice: KillAnnouncement | None = None
    text: str | None = None
    time_ns: int = 0
    """When its last line was printed, on the log's clock."""

    @property
    def named(self) -> OomKillSummary | KillAnnouncement | None:
        """Who is to die, once that is known."""
        return self.chosen or self.choice


@dataclass(frozen=True, slots=True)
class LoggedKill:
    """A kill, or one that found its victim exiting, and the report before it.

    ``first`` is the kill whose decision this one shares (``memory.oom.group``). ``text`` is what
    was logged of it: the report and its own line, or that alone.
    """

    line: Line
    told: Killed | Exiting
    report: Report | None
    first: LoggedKill | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class DuplicateKillLine:
    """One of a group, killed, logged and counted once more along with the rest of it."""

    line: Line


@dataclass(frozen=True, slots=True)
class LoggedNoVictim:
    """There was nobody to kill."""

    line: Line
    report: Report | None


@dataclass(frozen=True, slots=True)
class LoggedReaping:
    """The reaper is done with a victim."""

    line: Line
    told: Reaped


LogEvent = LoggedKill | DuplicateKillLine | LoggedNoVictim | LoggedReaping | Report
"""A report is told as soon as it says who asked, and again when it says who is to die.

Both are still alive then, as far as the kernel is concerned."""


def decision(report: Report | None, message: str | None, hook: str) -> OomControl:
    """What the kernel weighed, as far as its log tells: neither points nor capacity.

    ``message`` is how the "Killed process" line begins, where that is known already.
    """
    report = report or Report()
    invoked, chosen = report.invoked, report.chosen
    path = (chosen and chosen.oom_memcg) or report.limit_of
    return OomControl(
        source=hook,
        constraint=chosen.constraint if chosen else _constraint(report, message or ""),
        order=invoked.order if invoked else None,
        gfp_mask=invoked.gfp_mask if invoked else None,
        gfp_flags=invoked.gfp_flags if invoked else None,
        message=message,
        memcg=Memcg(None, path) if path else None,
        memcg_usage=report.limits,
    )


def _constraint(report: Report, message: str) -> str | None:
    """Without the line of the choice, the host is not told apart from a part of it."""
    if report.limits or report.limit_of:
        return "memcg"
    return next((bound for begin, bound in _OF_MESSAGE if message.startswith(begin)), None)
