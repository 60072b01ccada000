"""The chosen one beside those that the kernel could have chosen, by what each held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.oom_badness import is_unkillable, oom_badness
from otel_oom.model.events import OomKill
from otel_oom.model.types import OomTask, TaskList

_MOST: Final = 10


@dataclass(frozen=True, slots=True)
class RankedTask:
    """A process that held memory, and what that counted for.

    ``points`` are as ``oom_badness()`` of mm/oom_kill.c gives them, in pages; ``None`` for what
    the kernel never chooses, and where it can't be told. ``killed`` is whether it is the victim,
    which is told as the kernel marked it.
    """

    candidate: OomTask
    points: int | None
    killed: bool = False


def chosen_among(kill: OomKill, seen: TaskList | None) -> TaskList | None:
    """Those that the kernel listed, if it did, and otherwise those ``seen`` in /proc.

    The kernel's list is of the moment of its choice; what it lacks are their cgroups.
    """
    if kill.tasks is None:
        return seen
    paths = {(one.tgid, one.comm): one.memcg for one in seen.largest} if seen else {}
    largest = tuple(
        replace(one, memcg=paths.get((one.tgid, one.comm))) for one in kill.tasks.largest
    )
    return replace(kill.tasks, largest=largest)


def ranked(kill: OomKill, seen: TaskList | None) -> tuple[RankedTask, ...]:
    """The victim and the largest of the others, at most ten, the largest first."""
    if seen is None:
        return ()
    others = [
        RankedTask(candidate, _points(candidate, kill))
        for candidate in seen.largest
        if candidate.tgid != kill.victim.tgid
    ]
    every = sorted(
        [*_victim(kill), *others], key=lambda one: one.candidate.total_bytes, reverse=True
    )
    # The victim stays in it, however small.
    while len(every) > _MOST:
        every.remove(next(one for one in reversed(every) if not one.killed))
    return tuple(every)


def _victim(kill: OomKill) -> list[RankedTask]:
    memory = kill.memory
    if memory is None or kill.victim.tgid is None:
        return []
    candidate = OomTask(
        tgid=kill.victim.tgid,
        comm=kill.victim.comm or "",
        resident=memory.resident,
        swap=memory.swap,
        page_tables=memory.page_tables,
        uid=kill.victim.uid,
        score_adj=kill.victim.score_adj,
        memcg=kill.memcg.path if kill.memcg else None,
    )
    # What the kernel weighed is of the first of a group.
    told = kill.decision.points if kill.decision and kill.incident is None else None
    return [RankedTask(candidate, _points(candidate, kill) if told is None else told, killed=True)]


def _points(candidate: OomTask, kill: OomKill) -> int | None:
    score_adj = candidate.score_adj
    if score_adj is None or is_unkillable(candidate.tgid, score_adj):
        return None
    capacity = kill.decision.total_memory if kill.decision else None
    return oom_badness(candidate.total_bytes, score_adj, capacity)
