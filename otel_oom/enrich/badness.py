"""The processes that the kernel could have killed, ranked by their memory."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from otel_oom.linux.oom_badness import is_unkillable, oom_badness
from otel_oom.model.events import OomKill
from otel_oom.model.types import OomTask, TaskList

_MAX_TASKS: Final = 10


class RankedTask(Struct, frozen=True):
    """A process with its badness.

    ``points`` are those of ``oom_badness()`` in mm/oom_kill.c, in pages; ``None`` for processes
    that the kernel never kills, and where they are not known. The values of the victim are those of
    the mark.
    """

    task: OomTask
    points: int | None
    is_victim: bool = False


def rank_tasks(kill: OomKill) -> tuple[RankedTask, ...]:
    """Return the victim and the largest other processes, at most ten, the largest first."""
    if kill.tasks is None:
        return ()
    others = [
        RankedTask(task, _points(task, _total_memory(kill)))
        for task in kill.tasks.largest
        if task.tgid != kill.victim.tgid
    ]
    ranked = sorted([*_victim(kill), *others], key=lambda one: one.task.total_bytes, reverse=True)
    # The victim stays, however small.
    while len(ranked) > _MAX_TASKS:
        ranked.remove(next(one for one in reversed(ranked) if not one.is_victim))
    return tuple(ranked)


def rank_candidates(tasks: TaskList | None, total_memory: int | None) -> tuple[RankedTask, ...]:
    """Return the largest processes, at most ten, the largest first; none is a victim yet.

    ``total_memory`` is that of the cgroup in bytes, by which ``oom_score_adj`` counts.
    """
    largest = tasks.largest[:_MAX_TASKS] if tasks else ()
    return tuple(RankedTask(task, _points(task, total_memory)) for task in largest)


def _victim(kill: OomKill) -> list[RankedTask]:
    memory = kill.memory
    if memory is None or kill.victim.tgid is None:
        return []
    task = OomTask(
        tgid=kill.victim.tgid,
        comm=kill.victim.comm or "",
        resident=memory.resident,
        swap=memory.swap,
        page_tables=memory.page_tables,
        uid=kill.victim.uid,
        score_adj=kill.victim.score_adj,
        memcg=kill.memcg.path if kill.memcg else None,
    )
    # The points of a decision are those of its first victim.
    points = kill.decision.points if kill.decision and kill.incident is None else None
    points = _points(task, _total_memory(kill)) if points is None else points
    return [RankedTask(task, points, is_victim=True)]


def _total_memory(kill: OomKill) -> int | None:
    return kill.decision.total_memory if kill.decision else None


def _points(task: OomTask, total_memory: int | None) -> int | None:
    if task.score_adj is None or is_unkillable(task.tgid, task.score_adj):
        return None
    return oom_badness(task.total_bytes, task.score_adj, total_memory)
