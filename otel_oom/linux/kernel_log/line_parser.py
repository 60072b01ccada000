"""The lines of the kernel's log that tell of an OOM kill, read one by one.

The forms are those of kernels from 2.6 on, by the functions that print them: dump_header() (before
2.6.32 in out_of_memory()), dump_tasks() and out_of_memory() of mm/oom_kill.c,
mem_cgroup_print_oom_info() and its successors of mm/memcontrol.c, dump_stack_print_info() of
lib/dump_stack.c; those of kills are in :mod:`.kill_lines`. Names in them are
hostile: a process chooses its own, in 15 bytes, and whoever may make cgroups theirs. So every form
is matched from the first to the last character, and a number has a bounded length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from otel_oom.linux.kernel_log import kill_lines
from otel_oom.linux.kernel_log.line_types import (
    AllocatingTask,
    GroupKill,
    Invoked,
    LineType,
    MemcgOomTask,
    MemoryInfo,
    NoKillableProcess,
    OomKillSummary,
    OomMemcg,
    TableBegins,
    TaskRow,
    TraceBegins,
    Usage,
)
from otel_oom.linux.kernel_log.pattern import pattern
from otel_oom.model.units import KIB

_COMM_BYTES: Final = 15
_PATH_CHARS: Final = 990
"""Printed whole are about 1,000 bytes; a path that is as long may have lost its end."""
_UNLIMITED_KB: Final = 1 << 52
"""PAGE_COUNTER_MAX is LONG_MAX bytes, whatever the size of a page."""
_UNLIMITED_32_BIT_KB: Final = ((1 << 31) - 1) * 4
"""There it is LONG_MAX pages."""
_CONSTRAINTS: Final = frozenset({"none", "cpuset", "memory_policy", "memcg"})


_INVOKED: Final = pattern(
    r"(?:(.{0,80}) invoked )?oom-killer: gfp_mask=(0|0x[0-9a-f]{1,16})(?:\(([^()]{0,500})\))?, "
    r"(?:nodemask=[^ ]{1,100}, {1,2})?order=(-?\d{1,3})"
    # Before 2.6.36 there is a score of another scale; then both are there.
    r"(?:, (?:oomkilladj|oom_adj)=-?\d{1,3})?(?:, oom_score_adj=(-?\d{1,5}))?"
)
_ASKING: Final = pattern(
    r"CPU: \d{1,5} (?:UID: \d{1,10} )?PID: (\d{1,10}) Comm: "
    # The last of these words: a name has room for "Not tainted", a release never has it.
    r"(?:(.{0,80}) (?:Not tainted|Tainted: )|).*"
)
_ASKING_OLD: Final = pattern(
    r"Pid: (\d{1,10}), comm: {1,20}(?:(.{0,80}) (?:Not tainted|Tainted: )|).*"
)
_USAGE: Final = pattern(
    r"(memory|swap|memory\+swap): usage (\d{1,19})kB, limit (\d{1,19})kB, failcnt \d{1,20}"
)
_LIMIT_OF: Final = pattern(
    # Before 5.3 the counters stand in the same line.
    r"Memory cgroup stats for (/.*):(?: {1,2}[a-z_]{1,32}:\d{1,20}KB){0,40} ?"
)
_LIMIT_REACHED: Final = pattern(r"Memory limit reached of cgroup (/.*)")
_TABLE: Final = pattern(r"\[ {1,8}pid {1,8}\]((?: {1,12}[a-z_]{1,32}){4,16})")
_CHOSEN: Final = pattern(
    r"oom-kill:constraint=CONSTRAINT_([A-Z_]{1,32}),nodemask=(.*),pid=(\d{1,10}),uid=(\d{1,10})"
)
_ESCAPE: Final = pattern(r"\\x[0-9a-f]{2}")
_GROUP: Final = pattern(r"Tasks in /.* are going to be killed due to memory\.oom\.group set")
_FRAME: Final = pattern(
    r" {1,4}(?:\[<[0-9a-f]{1,16}>\] )?([\w.$]{1,120}\+0x[0-9a-f]{1,8})/0x[0-9a-f]{1,8}"
    r"(?: (\[[\w-]{1,64})(?: [0-9a-f]{1,64})?\])?(?: \([A-Z]{1,8}\))?"
)

_LISTED: Final = pattern(r"\[ {0,8}(\d{1,10})\] {1,6}(\d{1,10}) {1,6}(\d{1,10}) {1,9}\d.{0,160}")
_PANICKED: Final = pattern(
    r"Kernel panic - not syncing: "
    r"(Out of memory: (?:compulsory|system-wide) panic_on_oom is enabled"
    r"|System is deadlocked on memory)"
)


def parse(text: str) -> LineType | None:
    """What a line tells; ``None`` for one that tells nothing of a kill."""
    for sign, of_sign in _SIGNS:
        if sign in text:
            form = of_sign(text)
            if form is not None:
                return form
    return None


def frame(text: str) -> str | None:
    """``function+0x1a2``, and its module, out of a line of a stack; ``None`` if it is none.

    A frame behind a question mark is one that the kernel only found lying on the stack.
    """
    found = _FRAME.fullmatch(text)
    if not found:
        return None
    return f"{found[1]} {found[2]}]" if found[2] else found[1]


def panicked(text: str) -> str | None:
    """What the kernel panics of, if it is for want of memory.

    check_panic_on_oom() and out_of_memory() of mm/oom_kill.c, by panic() of kernel/panic.c.
    """
    found = _PANICKED.fullmatch(text)
    return found[1] if found else None


def listed(text: str) -> TaskRow | None:
    """A row of the table of processes (dump_task() of mm/oom_kill.c), up to where its sizes are."""
    found = _LISTED.fullmatch(text)
    return TaskRow(int(found[1]), int(found[2]), int(found[3])) if found else None


def _invoked(text: str) -> LineType | None:
    found = _INVOKED.fullmatch(text)
    if not found:
        return None
    score_adj = None if found[5] is None else int(found[5])
    return Invoked(found[1], int(found[2], 16), found[3], int(found[4]), score_adj)


def _asking(text: str) -> LineType | None:
    found = _ASKING.fullmatch(text) or _ASKING_OLD.fullmatch(text)
    return AllocatingTask(int(found[1]), found[2]) if found else None


def _trace_begins(text: str) -> LineType | None:
    return TraceBegins() if text in {"Call Trace:", "Call trace:"} else None


def _usage(text: str) -> LineType | None:
    found = _USAGE.fullmatch(text)
    if not found:
        return None
    limit = int(found[3])
    unlimited = limit >= _UNLIMITED_KB or limit == _UNLIMITED_32_BIT_KB
    return Usage(
        swap=found[1] != "memory",
        usage=int(found[2]) * KIB,
        limit=None if unlimited else limit * KIB,
    )


def _limit_of(text: str) -> LineType | None:
    found = _LIMIT_OF.fullmatch(text) or _LIMIT_REACHED.fullmatch(text)
    return OomMemcg(_whole(found[1])) if found else None


def _task_in(text: str) -> LineType | None:
    """Where the one was that is to die: in the cgroup whose limit was hit, or below it."""
    begin = "Task in "
    if not text.startswith(begin):
        return None
    mark, paths = " killed as a result of limit of ", text.removeprefix(begin)
    at = paths.find(mark)
    while at >= 0:
        task, limit = paths[:at], paths[at + len(mark) :]
        if f"{task}/".startswith(f"{limit.rstrip('/')}/"):
            return MemcgOomTask(_whole(task), _whole(limit))
        at = paths.find(mark, at + 1)
    return None


def _memory_info(text: str) -> LineType | None:
    return MemoryInfo() if text in {"Mem-Info:", "Mem-info:"} else None


def _table(text: str) -> LineType | None:
    found = _TABLE.fullmatch(text)
    columns = tuple(found[1].split()) if found else ()
    return TableBegins(columns) if columns[-1:] == ("name",) else None


def _chosen(text: str) -> LineType | None:
    found = _CHOSEN.fullmatch(text)
    named = _comm_apart(found[2]) if found else None
    if found is None or named is None:
        return None
    where, comm = named
    constraint = found[1].lower()
    oom_memcg, task_memcg = _memcgs(where)
    return OomKillSummary(
        constraint=constraint if constraint in _CONSTRAINTS else None,
        oom_memcg=_whole(oom_memcg),
        task_memcg=_whole(task_memcg),
        comm=comm,
        pid=int(found[3]),
        uid=int(found[4]),
    )


def _comm_apart(text: str) -> tuple[str, str] | None:
    """What stands before ``,task=``, and the name behind it.

    Either may hold that mark. It is the first behind which there is no more than a name has room
    for: so a process can't name itself into another's cgroup.
    """
    mark = ",task="
    at = text.find(mark)
    while at >= 0:
        comm = text[at + len(mark) :]
        if len(comm) <= 4 * _COMM_BYTES and len(_ESCAPE.sub("?", comm).encode()) <= _COMM_BYTES:
            return text[:at], comm
        at = text.find(mark, at + 1)
    return None


def _memcgs(text: str) -> tuple[str, str]:
    """The cgroup whose limit was hit and that of the chosen one; empty for none."""
    mark, limit = ",task_memcg=", ",oom_memcg="
    before, found, paths = text.partition(limit)
    if not found:
        return "", before.partition(mark)[2]
    oom, _, task = paths.partition(mark)
    # The chosen one is in the cgroup or below it, whatever marks their names may hold.
    at = paths.find(mark)
    while at >= 0:
        path, below = paths[:at], paths[at + len(mark) :]
        if f"{below}/".startswith(f"{path.rstrip('/')}/"):
            return path, below
        at = paths.find(mark, at + 1)
    return oom, task


def _whole(path: str) -> str | None:
    return path if path.startswith("/") and len(path) < _PATH_CHARS else None


def _group_kill(text: str) -> LineType | None:
    return GroupKill() if _GROUP.fullmatch(text) else None


def _none_to_kill(text: str) -> LineType | None:
    return NoKillableProcess() if text == "Out of memory and no killable processes..." else None


_SIGNS: Final[tuple[tuple[str, Callable[[str], LineType | None]], ...]] = (
    ("Killed process ", kill_lines.killed),
    ("oom-killer: ", _invoked),
    ("oom-kill:constraint=", _chosen),
    ("ill process ", kill_lines.choice),
    (": usage ", _usage),
    ("CPU: ", _asking),
    ("Call ", _trace_begins),
    ("Mem-", _memory_info),
    ("[ ", _table),
    ("Memory cgroup stats for ", _limit_of),
    ("memory.oom.group", _group_kill),
    (": OOM victim ", kill_lines.exiting),
    ("no killable processes", _none_to_kill),
    ("oom_reaper: reaped process ", kill_lines.reaped),
    (" killed as a result of limit of ", _task_in),
    ("Memory limit reached of cgroup ", _limit_of),
    ("Pid: ", _asking),
    ("illing process ", kill_lines.killing),
)
"""What a line must hold to be looked at closely, and who does that; nearly all hold nothing."""
