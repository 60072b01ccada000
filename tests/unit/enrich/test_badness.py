"""The ranking of processes."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from otel_oom.enrich.badness import rank_tasks
from otel_oom.model.types import OomTask, TaskList
from tests.testlib.samples.events import KILL, roundtrip

PAGE = os.sysconf("SC_PAGE_SIZE")


def host_tasks(*largest: OomTask) -> TaskList:
    """Return a list of processes of the host."""
    return TaskList(None, 0, len(largest), 0, largest)


def process(pid: int, mib: int, score_adj: int | None = 0) -> OomTask:
    """Return a process of that size."""
    return OomTask(pid, "x", mib << 20, 0, 0, 0, score_adj, "/")


def test_victim_has_the_values_of_its_mark() -> None:
    """Not those of the scan, which it may have left or released memory before."""
    assert KILL.memory is not None
    for others in (host_tasks(process(KILL.victim.tgid or 0, 1)), host_tasks()):
        (victim,) = rank_tasks(replace(KILL, tasks=others))
        assert victim.is_victim
        assert victim.task.resident == KILL.memory.resident
        assert victim.points == 13000


def test_no_ranking_without_a_task_list() -> None:
    assert rank_tasks(replace(KILL, tasks=None)) == ()


def test_ranking_has_the_ten_largest_and_the_victim() -> None:
    tasks = host_tasks(*(process(pid, 100 + pid) for pid in range(20)))
    ranked = rank_tasks(replace(KILL, tasks=tasks))
    assert [ranked_task.task.tgid for ranked_task in ranked] == [
        *range(19, 10, -1),
        KILL.victim.tgid,
    ]


@pytest.mark.parametrize(
    ("task", "points"),
    [
        # oom_badness(): RSS, swap and page tables in pages, and the adjustment in thousandths.
        (OomTask(7, "x", 10 * PAGE, 2 * PAGE, PAGE, 0, 0, "/"), 13),
        (OomTask(7, "x", 10 * PAGE, 0, 0, 0, 500, "/"), 10 + 500 * (64 * 1024 // 4 // 1000)),
        (OomTask(7, "x", 10 * PAGE, 0, 0, 0, -1000, "/"), None),
        (OomTask(7, "x", 10 * PAGE, 0, 0, 0, None, "/"), None),
        (OomTask(1, "init", 10 * PAGE, 0, 0, 0, 0, "/"), None),
    ],
)
def test_points_are_those_of_oom_badness(task: OomTask, points: int | None) -> None:
    assert [
        ranked_task.points
        for ranked_task in rank_tasks(replace(KILL, tasks=host_tasks(task)))
        if not ranked_task.is_victim
    ] == [points]


def test_points_with_an_adjustment_need_the_total_memory() -> None:
    assert KILL.decision is not None
    unknown = replace(KILL, decision=replace(KILL.decision, total_memory=None, points=None))
    ranked = rank_tasks(replace(unknown, tasks=host_tasks(process(7, 4), process(8, 3, 100))))
    assert {ranked_task.task.tgid: ranked_task.points for ranked_task in ranked} == {
        KILL.victim.tgid: None,
        7: (4 << 20) // PAGE,
        8: None,
    }


def test_points_of_further_victims_are_computed() -> None:
    """The decision has those of the first victim only."""
    assert KILL.memory is not None
    assert KILL.memory.page_tables is not None
    member = replace(KILL, incident="of another", victim=replace(KILL.victim, score_adj=0))
    (victim,) = rank_tasks(replace(member, tasks=host_tasks()))
    assert victim.points == (KILL.memory.resident + KILL.memory.page_tables) // PAGE


def test_task_list_survives_the_store() -> None:
    assert KILL.tasks is not None
    assert roundtrip(KILL).tasks == KILL.tasks
