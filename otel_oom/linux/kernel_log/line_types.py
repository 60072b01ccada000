"""The values in single lines of the kernel log, by the function that prints each.

Names in them are decoded text. Sizes are in bytes, whatever unit the kernel prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from otel_oom.model.types import Memory


class Line(Struct, frozen=True):
    """One record of the kernel log.

    ``time_ns`` is on the log's own clock. ``caller`` is the thread that printed it, if recorded.
    ``continues``: this is the rest of the record before. ``after_loss``: records before it are
    missing. ``exact``: the text is the kernel's own, while a file may add a prefix. ``stream``
    separates merged logs, such as those of several hosts.
    """

    text: str
    time_ns: int
    sequence: int
    caller: int | None = None
    continues: bool = False
    after_loss: bool = False
    exact: bool = False
    stream: str | None = None


class OomHeader(Struct, frozen=True):
    """The first line of a report (dump_header()); ``score_adj`` is the allocating task's."""

    comm: str | None
    gfp_mask: int
    gfp_flags: str | None
    order: int
    score_adj: int | None


class AllocatingTask(Struct, frozen=True):
    """The thread whose stack follows (dump_stack_print_info()); no name if it is ambiguous."""

    tid: int
    comm: str | None = None


class CallTraceHeader(Struct, frozen=True):
    """The line before a stack, which runs from the innermost frame outwards (dump_stack())."""


class MemcgCounter(Struct, frozen=True):
    """A counter of the cgroup whose limit was hit (mem_cgroup_print_oom_meminfo()).

    ``limit`` is ``None`` if there is none.
    """

    swap: bool
    usage: int
    limit: int | None


class OomMemcg(Struct, frozen=True):
    """The cgroup whose limit was hit (mem_cgroup_print_oom_meminfo())."""

    path: str | None


class MemcgOomTask(Struct, frozen=True):
    """The victim's cgroup and the one whose limit was hit (2.6.29 to 4.20).

    Printed by mem_cgroup_print_oom_info().
    """

    task_memcg: str | None
    oom_memcg: str | None


class MemInfoHeader(Struct, frozen=True):
    """The line before the host's memory statistics (show_mem())."""


class TaskTableHeader(Struct, frozen=True):
    """The header of the task table (dump_tasks()); ``columns`` are those after the pid."""

    columns: tuple[str, ...]


class TaskRow(Struct, frozen=True):
    """A row of the task table (dump_task()); ``tid`` is that of a thread which has memory."""

    tid: int
    uid: int
    tgid: int


class OomKillSummary(Struct, frozen=True):
    """The last line of a report: the victim and the constraint (dump_oom_summary()).

    A path is ``None`` where there is no cgroup, or its end may be missing.
    """

    constraint: str | None
    oom_memcg: str | None
    task_memcg: str | None
    comm: str
    pid: int
    uid: int


class KillAnnouncement(Struct, frozen=True):
    """The chosen process, before a line that reports the kill of it or its child (until 5.0).

    Printed by oom_kill_process().
    """

    message: str
    pid: int
    comm: str


class KilledProcess(Struct, frozen=True):
    """A kill (__oom_kill_process()); ``pid`` is that of the thread which was marked.

    Older kernels omit fields: some the pid, most the uid, the score or the ``message``.
    """

    message: str | None
    pid: int | None
    comm: str
    memory: Memory | None = None
    uid: int | None = None
    score_adj: int | None = None


class ExitingVictim(Struct, frozen=True):
    """A chosen process that had no memory any more (__oom_kill_process())."""

    message: str
    pid: int
    comm: str


class OomGroupKill(Struct, frozen=True):
    """The line before the kills of a group (mem_cgroup_print_oom_group()).

    All processes in the cgroup at ``path`` and below it are killed.
    """

    path: str | None


class NoKillableProcess(Struct, frozen=True):
    """The end of a search without a victim (out_of_memory())."""


class ReapedProcess(Struct, frozen=True):
    """A victim whose memory the kernel took (oom_reap_task_mm()); ``resident`` bytes are left."""

    pid: int
    comm: str
    resident: int


LineType = (
    OomHeader
    | AllocatingTask
    | CallTraceHeader
    | MemcgCounter
    | OomMemcg
    | MemcgOomTask
    | MemInfoHeader
    | TaskTableHeader
    | OomKillSummary
    | KillAnnouncement
    | KilledProcess
    | ExitingVictim
    | OomGroupKill
    | NoKillableProcess
    | ReapedProcess
)
"""A value that :func:`otel_oom.linux.kernel_log.line_parser.parse_line` returns."""


class LineFormat(Struct, frozen=True):
    """A message format: a line that contains ``marker`` and matches ``pattern`` as a whole.

    ``build`` returns ``None`` for a line that only resembles the format.
    """

    marker: str
    pattern: re.Pattern[str]
    build: Callable[[re.Match[str]], LineType | None]


def compile_pattern(expression: str) -> re.Pattern[str]:
    """Compile an expression for :meth:`re.Pattern.fullmatch`.

    A name may contain a newline, and the kernel prints ASCII digits only.
    """
    return re.compile(expression, re.ASCII | re.DOTALL)
