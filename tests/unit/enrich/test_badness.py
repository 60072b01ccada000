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


def test_the_victim_is_told_as_it_was_marked() -> None:
    """Not as it was seen later, when it had let go of some, nor left out when it was gone."""
    assert KILL.memory is not None
    for others in (seen(process(KILL.victim.tgid or 0, 1)), seen()):
        (one,) = rank_tasks(KILL, others)
        assert one.is_victim
        assert one.task.resident == KILL.memory.resident
        assert one.points == 13000


def test_the_kernels_own_list_goes_before_what_was_seen_later() -> None:
    """It is of the moment of the choice; what it lacks, their cgroups, is taken from the other."""
    listed = seen(replace(process(8, 300), memcg=None), replace(process(9, 200), memcg=None))
    kill = replace(KILL, tasks=listed)
    later = seen(process(7, 500), replace(process(9, 100), memcg="/a"))
    chosen = merge_task_lists(kill.tasks, later)
    assert chosen == replace(
        listed, largest=(listed.largest[0], replace(listed.largest[1], memcg="/a"))
    )
    assert merge_task_lists(kill.tasks, None) == listed
    assert merge_task_lists(KILL.tasks, later) == later


def test_nothing_is_ranked_when_nothing_was_seen() -> None:
    """The victim alone says nothing of who else there was."""
    assert rank_tasks(KILL, None) == ()


def test_the_largest_come_first_and_the_victim_always() -> None:
    """Ten at most, and one that is smaller than all of them is still among them."""
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
def test_points_are_the_kernels(candidate: OomTask, points: int | None) -> None:
    """As oom_badness() counts on a capacity of 64 MiB; what is never chosen has none."""
    assert [one.points for one in rank_tasks(KILL, seen(candidate)) if not one.is_victim] == [
        points
    ]


def test_points_of_an_adjusted_one_need_the_capacity() -> None:
    """Without it only those that are not adjusted can be counted."""
    assert KILL.decision is not None
    unknown = replace(KILL, decision=replace(KILL.decision, total_memory=None, points=None))
    told = rank_tasks(unknown, seen(process(7, 4), process(8, 3, 100)))
    assert {one.task.tgid: one.points for one in told} == {
        KILL.victim.tgid: None,
        7: (4 << 20) // PAGE,
        8: None,
    }


def test_the_points_of_a_group_are_its_first_ones() -> None:
    """Those of another member are counted, for the kernel weighed the first alone."""
    assert KILL.memory is not None
    assert KILL.memory.page_tables is not None
    member = replace(KILL, incident="of another", victim=replace(KILL.victim, score_adj=0))
    (one,) = rank_tasks(member, seen())
    assert one.points == (KILL.memory.resident + KILL.memory.page_tables) // PAGE


def test_hostile_names_make_no_lines_and_no_fields() -> None:
    """Whatever a process is called, there is one line for it, and its fields can be told apart."""
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


def test_the_lines_are_bounded() -> None:
    """The longest names there can be, all of escapes, make fewer lines, and each is whole."""
    candidate = OomTask(7, "\x01" * 15, 1, 0, 0, 0, 0, "/\x01" * 2048)
    text = format_tasks([RankedTask(candidate, 1)] * 10)
    assert 0 < len(text) <= 4096
    assert len(set(text.splitlines())) == 1


def test_what_was_seen_last_is_not_lost_on_the_disk() -> None:
    """Candidates come back from their JSON form as they were."""
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
def test_who_could_be_chosen_is_told_by_whose_limit_it_was(
    constraint: str | None, hit: str | None, stack: tuple[str, ...], expected: str | None
) -> None:
    """The cgroup that was hit, else the victim's own if it was a cgroup's limit, else the host."""
    assert KILL.decision is not None
    decision = replace(
        KILL.decision, constraint=constraint, memcg=Memcg(None, hit) if hit else None
    )
    memcg = oom_domain(replace(KILL, memcg=Memcg(None, "/own"), decision=decision, stack=stack))
    assert (memcg.path if memcg else None) == expected


@pytest.mark.parametrize(("stack", "expected"), [(KILL.stack, "/own"), ((), None)])
def test_without_a_decision_the_stack_says_whose_limit_it_was(
    stack: tuple[str, ...], expected: str | None
) -> None:
    """In a storm the kernel may tell no more than that."""
    memcg = oom_domain(replace(KILL, memcg=Memcg(None, "/own"), decision=None, stack=stack))
    assert (memcg.path if memcg else None) == expected
