"""The chosen one beside the others, and how that reads."""

from __future__ import annotations

import json
import os
import re

import pytest
from msgspec.structs import replace

from otel_oom.enrich.badness import RankedTask, merge_task_lists, rank_tasks
from otel_oom.model.types import Memcg, OomTask, TaskList
from otel_oom.otlp.logfmt import format_tasks
from otel_oom.snapshot.process_scanner import oom_domain
from tests.testlib.samples.events import KILL, SNAPSHOT, roundtrip

PAGE = os.sysconf("SC_PAGE_SIZE")


def seen(*largest: OomTask) -> TaskList:
    """Some candidates of the host."""
    return TaskList(None, 0, len(largest), 0, largest)


def process(pid: int, mib: int, score_adj: int | None = 0) -> OomTask:
    """A process of that size."""
    return OomTask(pid, "x", mib << 20, 0, 0, 0, score_adj, "/")


def test_victim_has_the_values_of_its_mark() -> None:
    """Not those of the scan, which it may have left or released memory before."""
    assert KILL.memory is not None
    for others in (seen(process(KILL.victim.tgid or 0, 1)), seen()):
        (one,) = rank_tasks(KILL, others)
        assert one.is_victim
        assert one.task.resident == KILL.memory.resident
        assert one.points == 13000


def test_logged_tasks_precede_scanned_ones() -> None:
    """The kernel's list has no cgroups: they come from the scan."""
    listed = seen(replace(process(8, 300), memcg=None), replace(process(9, 200), memcg=None))
    kill = replace(KILL, tasks=listed)
    later = seen(process(7, 500), replace(process(9, 100), memcg="/a"))
    chosen = merge_task_lists(kill.tasks, later)
    assert chosen == replace(
        listed, largest=(listed.largest[0], replace(listed.largest[1], memcg="/a"))
    )
    assert merge_task_lists(kill.tasks, None) == listed
    assert merge_task_lists(KILL.tasks, later) == later


def test_no_ranking_without_a_task_list() -> None:
    assert rank_tasks(KILL, None) == ()


def test_ranking_has_the_ten_largest_and_the_victim() -> None:
    many = seen(*(process(pid, 100 + pid) for pid in range(20)))
    told = rank_tasks(KILL, many)
    assert [one.task.tgid for one in told] == [*range(19, 10, -1), KILL.victim.tgid]


@pytest.mark.parametrize(
    ("candidate", "points"),
    [
        # oom_badness(): RSS, swap and page tables in pages, and the adjustment in thousandths.
        (OomTask(7, "x", 10 * PAGE, 2 * PAGE, PAGE, 0, 0, "/"), 13),
        (OomTask(7, "x", 10 * PAGE, 0, 0, 0, 500, "/"), 10 + 500 * (64 * 1024 // 4 // 1000)),
        (OomTask(7, "x", 10 * PAGE, 0, 0, 0, -1000, "/"), None),
        (OomTask(7, "x", 10 * PAGE, 0, 0, 0, None, "/"), None),
        (OomTask(1, "init", 10 * PAGE, 0, 0, 0, 0, "/"), None),
    ],
)
def test_points_are_those_of_oom_badness(candidate: OomTask, points: int | None) -> None:
    assert [one.points for one in rank_tasks(KILL, seen(candidate)) if not one.is_victim] == [
        points
    ]


def test_points_with_an_adjustment_need_the_total_memory() -> None:
    assert KILL.decision is not None
    unknown = replace(KILL, decision=replace(KILL.decision, total_memory=None, points=None))
    told = rank_tasks(unknown, seen(process(7, 4), process(8, 3, 100)))
    assert {one.task.tgid: one.points for one in told} == {
        KILL.victim.tgid: None,
        7: (4 << 20) // PAGE,
        8: None,
    }


def test_points_of_further_victims_are_computed() -> None:
    """The decision has those of the first victim only."""
    assert KILL.memory is not None
    assert KILL.memory.page_tables is not None
    member = replace(KILL, incident="of another", victim=replace(KILL.victim, score_adj=0))
    (one,) = rank_tasks(member, seen())
    assert one.points == (KILL.memory.resident + KILL.memory.page_tables) // PAGE


def test_hostile_names_make_no_lines_and_no_fields() -> None:
    hostile = 'a killed=true\npid=1 \x1b[31m"\\\u202e'
    candidate = OomTask(7, hostile, 1, 0, 0, 0, 0, f"/{hostile}")
    line = format_tasks([RankedTask(candidate, 1)])
    assert line.isprintable()
    names = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "]+)', line)
    fields = dict(names)
    assert [name for name, _ in names] == [
        *("pid", "comm", "resident", "points", "score_adj", "uid", "memcg")
    ]
    assert json.loads(fields["comm"]) == hostile
    assert json.loads(fields["memcg"]) == f"/{hostile}"


def test_task_lines_are_bounded() -> None:
    candidate = OomTask(7, "\x01" * 15, 1, 0, 0, 0, 0, "/\x01" * 2048)
    text = format_tasks([RankedTask(candidate, 1)] * 10)
    assert 0 < len(text) <= 4096
    assert len(set(text.splitlines())) == 1


def test_task_list_survives_the_store() -> None:
    assert SNAPSHOT.tasks is not None
    assert roundtrip(SNAPSHOT).tasks == SNAPSHOT.tasks


@pytest.mark.parametrize(
    ("constraint", "hit", "stack", "expected"),
    [
        ("memcg", "/pod", KILL.stack, "/pod"),
        # The kernel's log can leave out which cgroup it was.
        ("memcg", None, (), "/own"),
        (None, None, KILL.stack, "/own"),
        (None, None, (), None),
        ("none", None, (), None),
        ("cpuset", None, (), None),
    ],
)
def test_oom_domain_is_that_of_the_limit(
    constraint: str | None, hit: str | None, stack: tuple[str, ...], expected: str | None
) -> None:
    """The cgroup that was hit, else the victim's own for a cgroup's limit, else the host."""
    assert KILL.decision is not None
    decision = replace(
        KILL.decision, constraint=constraint, memcg=Memcg(None, hit) if hit else None
    )
    memcg = oom_domain(replace(KILL, memcg=Memcg(None, "/own"), decision=decision, stack=stack))
    assert (memcg.path if memcg else None) == expected


@pytest.mark.parametrize(("stack", "expected"), [(KILL.stack, "/own"), ((), None)])
def test_oom_domain_without_a_decision_follows_the_stack(
    stack: tuple[str, ...], expected: str | None
) -> None:
    memcg = oom_domain(replace(KILL, memcg=Memcg(None, "/own"), decision=None, stack=stack))
    assert (memcg.path if memcg else None) == expected
