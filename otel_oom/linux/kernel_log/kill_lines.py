"""The lines that report a kill, its announcement, its failure or its end, of each kernel.

Printed by __oom_kill_process() and oom_kill_process() of mm/oom_kill.c, and before 2.6.29 by each
architecture's page fault handler. Oldest first; values that a kernel does not print are unknown:

- ``VM: killing process X``, on some architectures followed by ``(N)``;
- ``Out of Memory: Killed process N (X).``;
- ``Killed process N (X)``, then followed by sizes (``vsz`` or ``total-vm``), with the user
  before or after the name (Red Hat's), with a message before it (5.1), followed by page tables and
  score (5.4);
- ``OOM killed process N (X)`` of OpenVZ;
- until 5.0, a line that announces the victim before all but the first two.

A process chooses its name of 15 bytes: too few for the text that must follow a name.
"""

from __future__ import annotations

import re
from typing import Final

from otel_oom.linux.kernel_log.line_types import (
    ExitingVictim,
    KillAnnouncement,
    KilledProcess,
    LineFormat,
    ReapedProcess,
    compile_pattern,
)
from otel_oom.model.types import Memory
from otel_oom.model.units import KIB

_PAGE: Final = 4096

_MESSAGE: Final = (
    r"(Out of [Mm]emory[^:]{0,40}|Memory cgroup out of memory|No available memory[^:]{0,20})"
)
"""Required before a line that has so few fields that any program could have printed it."""

_SIZES: Final = (
    r"(?:total-vm|vsz):(\d{1,17})kB, anon-rss:(\d{1,17})kB, file-rss:(\d{1,17})kB"
    r"(?:, shmem-rss:(\d{1,17})kB)?"
)
_KILLED: Final = compile_pattern(
    r"(?:([^:]{1,64}): )?Killed process (\d{1,10})(?:, UID (\d{1,10}),)? \((.{0,80})\)"
    rf"(?:, UID (\d{{1,10}}),)? {_SIZES}"
    r"(?:, UID:(\d{1,10}) pgtables:(\d{1,17})kB oom_score_adj:(-?\d{1,5}))?"
    # Fields of a vendor's kernel; not those that are cut, see cut_lines.py.
    r"(?:,? [A-Za-z][\w-]{0,31}:[^\s,:()>]{1,32}){0,8}"
)
_KILLED_PLAIN: Final = compile_pattern(
    rf"(?:{_MESSAGE}: )?Killed process (\d{{1,10}})(?:, UID (\d{{1,10}}),)? \((.{{0,80}})\)\.?"
)
_KILLED_IN_CONTAINER: Final = compile_pattern(
    r"(Out of memory(?: in UB \d{1,10})?): OOM killed process (\d{1,10}) \((.{0,80})\)"
    r" score -?\d{1,20} vm:\d{1,17}kB, rss:\d{1,17}kB, swap:\d{1,17}kB"
)
_KILLING: Final = compile_pattern(r"VM: [Kk]illing process (.{1,80}?)(?:\((\d{1,10})\))?")
_ANNOUNCED: Final = compile_pattern(
    rf"{_MESSAGE}: [Kk]ill process (\d{{1,10}}) \((.{{0,80}})\)"
    r" (?:with )?score -?\d{1,20} (?:or a child|or sacrifice child|and children\.)"
)
_EXITING: Final = compile_pattern(
    r"([^:]{1,64}): OOM victim (\d{1,10}) \((.{0,80})\) is already exiting\. Skip killing the task"
)
_REAPED: Final = compile_pattern(
    r"oom_reaper: reaped process (\d{1,10}) \((.{0,80})\), now anon-rss:(\d{1,17})kB, "
    # The first kernels that have it print "lkB".
    r"file-rss:(\d{1,17})kB, shmem-rss:(\d{1,17})(?:kB|lkB)"
)


def _killed(match: re.Match[str]) -> KilledProcess:
    message, pid, before, comm, after, *sizes, shmem, uid, page_tables, score_adj = match.groups()
    total_vm, anon, file = (int(size) * KIB for size in sizes)
    shmem_bytes = int(shmem) * KIB if shmem else None
    tables = _page_table_bytes(page_tables, anon + file + (shmem_bytes or 0))
    return KilledProcess(
        message=message,
        pid=int(pid),
        comm=comm,
        memory=Memory(total_vm, anon, file, shmem_bytes, None, tables),
        uid=_number(before or after or uid),
        score_adj=_number(score_adj),
    )


def _page_table_bytes(printed: str | None, resident: int) -> int | None:
    """Return the size of page tables, which 5.4 and 5.5 print in bytes and call kB.

    A number is in bytes if that makes whole pages, and if as kB it would exceed the memory that
    the tables map.
    """
    if printed is None:
        return None
    size = int(printed)
    return size if size % _PAGE == 0 and size * KIB > resident else size * KIB


def _number(digits: str | None) -> int | None:
    return int(digits) if digits else None


FORMATS: Final = (
    LineFormat("Killed process ", _KILLED, _killed),
    LineFormat(
        "Killed process ",
        _KILLED_PLAIN,
        lambda m: KilledProcess(m[1], int(m[2]), m[4], uid=_number(m[3])),
    ),
    LineFormat("ill process ", _ANNOUNCED, lambda m: KillAnnouncement(m[1], int(m[2]), m[3])),
    LineFormat(": OOM victim ", _EXITING, lambda m: ExitingVictim(m[1], int(m[2]), m[3])),
    LineFormat(
        "oom_reaper: reaped process ",
        _REAPED,
        lambda m: ReapedProcess(int(m[1]), m[2], sum(int(m[size]) for size in (3, 4, 5)) * KIB),
    ),
    LineFormat(
        "OOM killed process ",
        _KILLED_IN_CONTAINER,
        lambda m: KilledProcess(m[1], int(m[2]), m[3]),
    ),
    LineFormat("illing process ", _KILLING, lambda m: KilledProcess(None, _number(m[2]), m[1])),
)
