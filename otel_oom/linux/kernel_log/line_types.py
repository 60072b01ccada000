"""What single lines of the kernel's log tell of an OOM kill.

Names in them are as decoded text; sizes are in bytes, whatever unit the kernel prints.
"""

from __future__ import annotations

from dataclasses import dataclass

from otel_oom.model.types import Memory


@dataclass(frozen=True, slots=True)
class Line:
    """One record of the kernel's log.

    ``time_ns`` is on the log's own clock; ``caller`` the id of the thread that printed it, where
    the kernel tells that. ``continues`` is for a piece of a line whose beginning is the record
    before; ``after_loss`` for one before which others are missing. ``exact``: the text is the
    kernel's own from its first character on, where a file may have more before it. ``stream``
    tells logs apart that are merged: the host that a line is of.
    """

    text: str
    time_ns: int
    sequence: int
    caller: int | None = None
    continues: bool = False
    after_loss: bool = False
    exact: bool = False
    stream: str | None = None


@dataclass(frozen=True, slots=True)
class Invoked:
    """A report begins; ``score_adj`` is that of the thread that asked for memory."""

    comm: str | None
    gfp_mask: int
    gfp_flags: str | None
    order: int
    score_adj: int | None


@dataclass(frozen=True, slots=True)
class AllocatingTask:
    """The thread that a stack is of; its name, where the line still has it apart from the rest."""

    tid: int
    comm: str | None = None


@dataclass(frozen=True, slots=True)
class TraceBegins:
    """The lines that follow are the stack, from the inside outwards."""


@dataclass(frozen=True, slots=True)
class Usage:
    """A counter of the cgroup whose limit was hit, in bytes; no ``limit`` is none set."""

    swap: bool
    usage: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class OomMemcg:
    """The path of the cgroup whose limit was hit."""

    path: str | None


@dataclass(frozen=True, slots=True)
class MemcgOomTask:
    """Where the one was that is to die, and the cgroup whose limit was hit (2.6.29 to 4.20)."""

    task_memcg: str | None
    oom_memcg: str | None


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """What the host's memory is in use for follows."""


@dataclass(frozen=True, slots=True)
class TableBegins:
    """The lines that follow are the processes to choose from; ``columns`` are behind the id."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One of those that could have been killed; ``tid`` is that of a thread which has memory."""

    tid: int
    uid: int
    tgid: int


@dataclass(frozen=True, slots=True)
class OomKillSummary:
    """Who is to die and why: the last line of a report.

    A path is ``None`` where there is no cgroup to tell or its end may be missing.
    """

    constraint: str | None
    oom_memcg: str | None
    task_memcg: str | None
    comm: str
    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class KillAnnouncement:
    """Who is to die, or a child of it (before 5.1): the kill has a line of its own behind this."""

    message: str
    pid: int
    comm: str


@dataclass(frozen=True, slots=True)
class Killed:
    """A kill. ``pid`` is that of the thread which the kernel marked.

    Older kernels tell less: some no number, most no user, no score or no ``message``.
    """

    message: str | None
    pid: int | None
    comm: str
    memory: Memory | None = None
    uid: int | None = None
    score_adj: int | None = None


@dataclass(frozen=True, slots=True)
class Exiting:
    """Chosen, but without memory when it was to be killed."""

    message: str
    pid: int
    comm: str


@dataclass(frozen=True, slots=True)
class GroupKill:
    """The rest of a cgroup with ``memory.oom.group`` dies as well."""


@dataclass(frozen=True, slots=True)
class NoKillableProcess:
    """No process may be killed."""


@dataclass(frozen=True, slots=True)
class Reaped:
    """The kernel took a victim's memory; ``resident`` bytes are left."""

    pid: int
    comm: str
    resident: int


LineType = (
    Invoked
    | AllocatingTask
    | TraceBegins
    | Usage
    | OomMemcg
    | MemcgOomTask
    | MemoryInfo
    | TableBegins
    | OomKillSummary
    | KillAnnouncement
    | Killed
    | Exiting
    | GroupKill
    | NoKillableProcess
    | Reaped
)
"""What :func:`otel_oom.linux.kernel_log.line_parser.parse` finds in a line."""
