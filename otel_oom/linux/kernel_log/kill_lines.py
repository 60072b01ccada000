"""The lines that tell of a kill or of one that did not come about, as each kernel prints them.

Printed by __oom_kill_process() and oom_kill_process() of mm/oom_kill.c, and before 2.6.29 by each
architecture's page fault handler, oldest first; what a kernel does not print is unknown:

- ``VM: killing process X``, on some architectures with ``(N)`` behind it;
- ``Out of Memory: Killed process N (X).``;
- ``Killed process N (X)``, then with sizes behind it (``vsz`` or ``total-vm``), with the user
  before or behind the name (Red Hat's), with a message before it (5.1), with page tables and score
  behind it (5.4);
- before all but the first two, up to 5.0, a line of the choice.

A name is chosen by its process, in 15 bytes: too few for what has to stand behind it.
"""

from __future__ import annotations

from typing import Final

from otel_oom.linux.kernel_log.line_types import Exiting, KillAnnouncement, Killed, LineType, Reaped
from otel_oom.linux.kernel_log.pattern import pattern
from otel_oom.model.types import Memory
from otel_oom.model.units import KIB

_PAGE: Final = 4096

_MESSAGE: Final = (
    r"(Out of [Mm]emory[^:]{0,40}|Memory cgroup out of memory|No available memory[^:]{0,20})"
)
"""What stands before a kill that tells so little else that anybody could have said it."""

_SIZES: Final = (
    r"(?:total-vm|vsz):(\d{1,17})kB, anon-rss:(\d{1,17})kB, file-rss:(\d{1,17})kB"
    r"(?:, shmem-rss:(\d{1,17})kB)?"
)
_KILLED: Final = pattern(
    r"(?:([^:]{1,64}): )?Killed process (\d{1,10})(?:, UID (\d{1,10}),)? \((.{0,80})\)"
    rf"(?:, UID (\d{{1,10}}),)? {_SIZES}"
    r"(?:, UID:(\d{1,10}) pgtables:(\d{1,17})kB oom_score_adj:(-?\d{1,5}))?"
    # What a vendor's kernel adds.
    r"(?:,? [A-Za-z][\w-]{0,31}:[^\s,:()]{1,32}){0,8}"
)
_KILLED_PLAIN: Final = pattern(rf"(?:{_MESSAGE}: )?Killed process (\d{{1,10}}) \((.{{0,80}})\)\.?")
_KILLING: Final = pattern(r"VM: [Kk]illing process (.{1,80}?)(?:\((\d{1,10})\))?")
_CHOICE: Final = pattern(
    rf"{_MESSAGE}: [Kk]ill process (\d{{1,10}}) \((.{{0,80}})\)"
    r" (?:with )?score -?\d{1,20} (?:or a child|or sacrifice child|and children\.)"
)
_EXITING: Final = pattern(
    r"([^:]{1,64}): OOM victim (\d{1,10}) \((.{0,80})\) is already exiting\. Skip killing the task"
)
_REAPED: Final = pattern(
    r"oom_reaper: reaped process (\d{1,10}) \((.{0,80})\), now anon-rss:(\d{1,17})kB, "
    # The first kernels that have it print a letter too many.
    r"file-rss:(\d{1,17})kB, shmem-rss:(\d{1,17})(?:kB|lkB)"
)


def killed(text: str) -> LineType | None:
    """A kill, or one that some kernels tell in less words."""
    found = _KILLED.fullmatch(text)
    if not found:
        plain = _KILLED_PLAIN.fullmatch(text)
        return Killed(plain[1], int(plain[2]), plain[3]) if plain else None
    message, pid, before, comm, behind, *sizes, shmem, uid, page_tables, score_adj = found.groups()
    total_vm, anon, file = (int(size) * KIB for size in sizes)
    resident = anon + file + (_bytes(shmem) or 0)
    return Killed(
        message=message,
        pid=int(pid),
        comm=comm,
        memory=Memory(
            total_vm, anon, file, _bytes(shmem), None, _page_tables(page_tables, resident)
        ),
        uid=_number(before or behind or uid),
        score_adj=_number(score_adj),
    )


def killing(text: str) -> LineType | None:
    """A process that found no memory for a page of its own (before 2.6.29)."""
    found = _KILLING.fullmatch(text)
    return Killed(None, _number(found[2]), found[1]) if found else None


def choice(text: str) -> LineType | None:
    """Who is to die, or a child of it."""
    found = _CHOICE.fullmatch(text)
    return KillAnnouncement(found[1], int(found[2]), found[3]) if found else None


def exiting(text: str) -> LineType | None:
    """Chosen, and gone before it could be killed."""
    found = _EXITING.fullmatch(text)
    return Exiting(found[1], int(found[2]), found[3]) if found else None


def reaped(text: str) -> LineType | None:
    """What the reaper has left of a victim's memory."""
    found = _REAPED.fullmatch(text)
    if not found:
        return None
    return Reaped(int(found[1]), found[2], sum(int(found[at]) for at in (3, 4, 5)) * KIB)


def _page_tables(told: str | None, resident: int) -> int | None:
    """The size of page tables in bytes, which 5.4 and 5.5 print as such and call kB.

    It is bytes that are a whole number of pages, and so many that as kB they were more than all
    that they map.
    """
    if told is None:
        return None
    size = int(told)
    return size if size % _PAGE == 0 and size * KIB > resident else size * KIB


def _number(digits: str | None) -> int | None:
    return int(digits) if digits else None


def _bytes(kilobytes: str | None) -> int | None:
    return int(kilobytes) * KIB if kilobytes else None
