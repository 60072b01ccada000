"""Parse single lines of the kernel log: the report of an OOM kill, and the kill itself.

Formats are those of kernels since 2.6, by the functions that print them: dump_header() (before
2.6.32 in out_of_memory()), dump_tasks() and out_of_memory() of mm/oom_kill.c,
mem_cgroup_print_oom_info() and its successors of mm/memcontrol.c, dump_stack_print_info() of
lib/dump_stack.c; those of kills are in :mod:`.kill_lines`. Names in them are hostile: a process
chooses its own, in 15 bytes, and the owner of a cgroup that cgroup's. So a format matches a line
from its first to its last character, and a number has a bounded length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from otel_oom.linux.kernel_log import kill_lines, line_types
from otel_oom.linux.kernel_log.cut_lines import CUT_MARK, parse_cut_line
from otel_oom.linux.kernel_log.line_types import LineFormat, LineType, compile_pattern
from otel_oom.model.units import KIB

_COMM_BYTES: Final = 15
_PADDING: Final = " " * 16
"""More blanks than a name has: those of a terminal from which the line was copied."""
_PATH_CHARS: Final = 990
"""The kernel prints about 1,000 bytes of a line; a longer path may have lost its end."""
_UNLIMITED_KB: Final = 1 << 52
"""PAGE_COUNTER_MAX is LONG_MAX bytes, whatever the size of a page."""
_UNLIMITED_32_BIT_KB: Final = ((1 << 31) - 1) * 4
"""There it is LONG_MAX pages."""
_CONSTRAINTS: Final = frozenset({"none", "cpuset", "memory_policy", "memcg"})
_TASK_SEPARATOR: Final = ",task="
_TASK_MEMCG_SEPARATOR: Final = ",task_memcg="
_LIMIT_SEPARATOR: Final = " killed as a result of limit of "

_HEADER: Final = compile_pattern(
    r"(?:(.{0,80}) invoked )?oom-killer: gfp_mask=(0|0x[0-9a-f]{1,16})(?:\(([^()]{0,500})\))?, "
    r"(?:nodemask=[^ ]{1,100}, {1,2})?order=(-?\d{1,3})"
    # Before 2.6.36 there is a score of another scale; then both are there.
    r"(?:, (?:oomkilladj|oom_adj)=-?\d{1,3})?(?:, oom_score_adj=(-?\d{1,5}))?"
)
_TASK: Final = compile_pattern(
    r"CPU: \d{1,5} (?:UID: \d{1,10} )?PID: (\d{1,10}) Comm: "
    # The last of these words: a name may contain "Not tainted", a release never does.
    r"(?:(.{0,80}) (?:Not tainted|Tainted: )|).*"
)
_TASK_OLD: Final = compile_pattern(
    r"Pid: (\d{1,10}), comm: {1,20}(?:(.{0,80}) (?:Not tainted|Tainted: )|).*"
)
_COUNTER: Final = compile_pattern(
    r"(memory|swap|memory\+swap): usage (\d{1,19})kB, limit (\d{1,19})kB, failcnt \d{1,20}"
)
_STATS: Final = compile_pattern(
    # Before 5.3 the counters are in the same line.
    r"Memory cgroup stats for (/.*):(?: {1,2}[a-z_]{1,32}:\d{1,20}KB){0,40} ?"
)
_TABLE: Final = compile_pattern(r"\[ {1,8}pid {1,8}\]((?: {1,12}[a-z_]{1,32}){4,16})")
_SUMMARY: Final = compile_pattern(
    r"oom-kill:constraint=CONSTRAINT_([A-Z_]{1,32}),nodemask=(.*),pid=(\d{1,10}),uid=(\d{1,10})"
)
_ESCAPE: Final = compile_pattern(r"\\x[0-9a-f]{2}")
_ROW: Final = compile_pattern(
    r"\[ {0,8}(\d{1,10})\] {1,6}(\d{1,10}) {1,6}(\d{1,10}) {1,9}\d.{0,160}"
)
_PANIC: Final = compile_pattern(
    r"Kernel panic - not syncing: "
    r"(Out of memory: (?:compulsory|system-wide) panic_on_oom is enabled"
    r"|System is deadlocked on memory"
    # Before 4.19.
    r"|Out of memory and no killable processes\.\.\."
    # Before 2.6.36.
    r"|out of memory(?:\(memcg\)| from page fault)?\. (?:Compulsory )?panic_on_oom is selected\.?)"
)


def parse_line(text: str) -> LineType | None:
    """Return the value of a line; ``None`` for one that is not about an OOM kill."""
    for marker, formats in _FORMATS_BY_MARKER.items():
        if marker in text:
            for line_format in formats:
                match = line_format.pattern.fullmatch(text)
                value = line_format.build(match) if match else None
                if value is not None:
                    return value
    return None


def parse_stored_line(text: str) -> LineType | None:
    """Parse a line whose text may be padded or cut.

    A blank at the end is of a name, or of no meaning.
    """
    if text.endswith(_PADDING):
        text = text.rstrip(" ")
    parsed = parse_line(text)
    if parsed is None and text.endswith(CUT_MARK):
        return parse_cut_line(text)
    return parse_line(text.rstrip(" ")) if parsed is None and text.endswith(" ") else parsed


def parse_panic(text: str) -> str | None:
    """Return the reason of a panic, if it is being out of memory.

    check_panic_on_oom() and out_of_memory() of mm/oom_kill.c, by panic() of kernel/panic.c.
    """
    match = _PANIC.fullmatch(text)
    return match[1] if match else None


def parse_task_row(text: str) -> line_types.TaskRow | None:
    """Parse a row of the task table (dump_task() of mm/oom_kill.c) up to its sizes."""
    match = _ROW.fullmatch(text)
    return line_types.TaskRow(int(match[1]), int(match[2]), int(match[3])) if match else None


def _header(match: re.Match[str]) -> line_types.OomHeader:
    score_adj = None if match[5] is None else int(match[5])
    return line_types.OomHeader(match[1], int(match[2], 16), match[3], int(match[4]), score_adj)


def _allocating_task(match: re.Match[str]) -> line_types.AllocatingTask:
    return line_types.AllocatingTask(int(match[1]), match[2])


def _counter(match: re.Match[str]) -> line_types.MemcgCounter:
    limit = int(match[3])
    unlimited = limit >= _UNLIMITED_KB or limit == _UNLIMITED_32_BIT_KB
    return line_types.MemcgCounter(
        swap=match[1] != "memory",
        usage=int(match[2]) * KIB,
        limit=None if unlimited else limit * KIB,
    )


def _oom_memcg(match: re.Match[str]) -> line_types.OomMemcg:
    return line_types.OomMemcg(_whole_path(match[1]))


def _memcg_oom_task(match: re.Match[str]) -> line_types.MemcgOomTask | None:
    paths = _split_nested(match[1], _LIMIT_SEPARATOR, outer_first=False)
    return line_types.MemcgOomTask(_whole_path(paths[1]), _whole_path(paths[0])) if paths else None


def _table_header(match: re.Match[str]) -> line_types.TaskTableHeader | None:
    columns = tuple(match[1].split())
    return line_types.TaskTableHeader(columns) if columns[-1:] == ("name",) else None


def _summary(match: re.Match[str]) -> line_types.OomKillSummary | None:
    parts = _split_comm(match[2])
    if parts is None:
        return None
    location, comm = parts
    constraint = match[1].lower()
    oom_memcg, task_memcg = _memcgs(location)
    return line_types.OomKillSummary(
        constraint=constraint if constraint in _CONSTRAINTS else None,
        oom_memcg=_whole_path(oom_memcg),
        task_memcg=_whole_path(task_memcg),
        comm=comm,
        pid=int(match[3]),
        uid=int(match[4]),
    )


def _split_comm(text: str) -> tuple[str, str] | None:
    """Split at ``,task=``, which either side may contain.

    It is the first separator that is followed by no more than fits into a name: so a process can't
    name itself into another's cgroup.
    """
    for index in _indexes(text, _TASK_SEPARATOR):
        comm = text[index + len(_TASK_SEPARATOR) :]
        if len(comm) <= 4 * _COMM_BYTES and len(_ESCAPE.sub("?", comm).encode()) <= _COMM_BYTES:
            return text[:index], comm
    return None


def _memcgs(text: str) -> tuple[str, str]:
    """Return the cgroup whose limit was hit, and the chosen process's; empty for none."""
    before, limit, paths = text.partition(",oom_memcg=")
    if not limit:
        return "", before.partition(_TASK_MEMCG_SEPARATOR)[2]
    nested = _split_nested(paths, _TASK_MEMCG_SEPARATOR, outer_first=True)
    if nested:
        return nested
    oom, _, task = paths.partition(_TASK_MEMCG_SEPARATOR)
    return oom, task


def _split_nested(text: str, separator: str, *, outer_first: bool) -> tuple[str, str] | None:
    """Return an outer path and one in it or below it, whatever separators their names contain."""
    for index in _indexes(text, separator):
        first, second = text[:index], text[index + len(separator) :]
        outer, inner = (first, second) if outer_first else (second, first)
        if f"{inner}/".startswith(f"{outer.rstrip('/')}/"):
            return outer, inner
    return None


def _indexes(text: str, separator: str) -> Iterator[int]:
    return (match.start() for match in re.finditer(f"(?={re.escape(separator)})", text))


def _whole_path(path: str) -> str | None:
    return path if path.startswith("/") and len(path) < _PATH_CHARS else None


_FORMATS: Final = (
    LineFormat("oom-killer: ", _HEADER, _header),
    LineFormat("oom-kill:constraint=", _SUMMARY, _summary),
    LineFormat(": usage ", _COUNTER, _counter),
    LineFormat("CPU: ", _TASK, _allocating_task),
    LineFormat(
        "race:",
        # Alpha's, arc's and 32-bit arm's are shorter.
        compile_pattern("(?:Call |Stack |Back)?[Tt]race: {0,4}"),
        lambda _: line_types.CallTraceHeader(),
    ),
    LineFormat("Mem-", compile_pattern("Mem-[Ii]nfo:"), lambda _: line_types.MemInfoHeader()),
    LineFormat("[ ", _TABLE, _table_header),
    LineFormat("Memory cgroup stats for ", _STATS, _oom_memcg),
    LineFormat(
        "memory.oom.group",
        compile_pattern(r"Tasks in (/.*) are going to be killed due to memory\.oom\.group set"),
        lambda match: line_types.OomGroupKill(_whole_path(match[1])),
    ),
    LineFormat(
        "no killable processes",
        compile_pattern(r"Out of memory and no killable processes\.\.\."),
        lambda _: line_types.NoKillableProcess(),
    ),
    LineFormat(_LIMIT_SEPARATOR, compile_pattern("Task in (.*)"), _memcg_oom_task),
    LineFormat(
        "Memory limit reached of cgroup ",
        compile_pattern("Memory limit reached of cgroup (/.*)"),
        _oom_memcg,
    ),
    LineFormat("Pid: ", _TASK_OLD, _allocating_task),
)

_ALL_FORMATS: Final = (*kill_lines.FORMATS, *_FORMATS)
_FORMATS_BY_MARKER: Final = {
    marker: [each for each in _ALL_FORMATS if each.marker == marker]
    for marker in dict.fromkeys(each.marker for each in _ALL_FORMATS)
}
