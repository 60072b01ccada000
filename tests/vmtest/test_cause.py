"""Why it happened, on every supported kernel, held against that kernel's own report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest
from msgspec.structs import replace

from otel_oom.enrich.advice import advise
from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import TaskList
from tests.testlib.samples.events import HOST
from tests.vmtest.guest import Run
from tests.vmtest.scenario_result import Played

PAGE: Final = 4096

_HELD_BACK: Final = 1 << 20
"""More than a process, or a guest's CPUs, can have counted without having told it yet."""

ONE_CGROUP: Final = ["memcg", "threads", "hostile", "other"]
"""Scenarios with one kill, in one cgroup without any below it.

As soon as the victim is dead, they take the cgroup away, as who runs containers does. On a slow
machine it is gone before it can be looked at: of all four, once at least it is not.
"""

_STATS: Final = re.compile(r"(?:\\x0a|\n|^)(\w+) (\d+)(?=\\x0a|\n|$)")
_TABLE: Final = re.compile(
    r"(?m)^\[ *(?P<pid>\d+)\] +\d+ +\d+ +\d+ +(?P<rss>\d+) .* (?P<adj>-?\d+) +\S.*$"
)


def seen_of(played: Played) -> Iterator[tuple[OomKill, Snapshot, TaskList | None]]:
    """Each kill of the scenario with its snapshot and the processes that were scanned."""
    told = played.told["libbpf"]
    for kill, seen, scanned in zip(told.kills, told.seen, told.scanned, strict=True):
        if kill.victim.tgid in played.made.pids:
            yield kill, seen, scanned


def in_one_cgroup(run: Run) -> list[tuple[Played, OomKill, Snapshot, TaskList]]:
    """Those kills whose cgroup was still there when it was looked at."""
    scenarios = run.results["scenarios"]
    every = [Played.from_json(scenarios[name]) for name in ONE_CGROUP if name in scenarios]
    return [
        (played, kill, seen, scanned)
        for played in every
        for kill, seen, scanned in seen_of(played)
        if scanned
    ]


def test_the_candidates_are_those_of_the_kernels_table(run: Run) -> None:
    """Nobody is told that the kernel did not weigh, and each with what it held and its score.

    What was not killed goes on, and may hold more by then.
    """
    assert in_one_cgroup(run)
    for played, kill, _, scanned in in_one_cgroup(run):
        rows = {int(row["pid"]): row for row in _TABLE.finditer(played.log)}
        assert kill.victim.tgid in rows
        assert scanned.memcg == played.made.memcg
        assert {one.tgid for one in scanned.largest} <= rows.keys()
        for one in scanned.largest:
            assert one.memcg == played.made.memcg
            assert one.score_adj == int(rows[one.tgid]["adj"])
            if one.tgid != kill.victim.tgid:
                assert one.resident >= int(rows[one.tgid]["rss"]) * PAGE - _HELD_BACK


@pytest.mark.parametrize("name", ["other"])
def test_one_that_is_spared_is_told_beside_the_victim(played: Played) -> None:
    """Who asked, and is never chosen, held much of the memory, and is told as a candidate."""
    ((_, _, scanned),) = seen_of(played)
    assert scanned is not None
    (spared,) = (one for one in scanned.largest if one.tgid == played.made.trigger)
    assert spared.score_adj == -1000
    assert spared.resident > 4 << 20


def test_the_cgroups_numbers_are_its_own(run: Run) -> None:
    """On v2 each part that the kernel's report has of it is told, by the same name."""
    assert in_one_cgroup(run)
    for played, kill, seen, _ in in_one_cgroup(run):
        assert kill.decision is not None
        numbers = seen.limit_cgroup if kill.decision.memcg else seen.victim_cgroup
        assert numbers is not None
        assert numbers.events["oom_kill"] == played.counted
        assert numbers.stat["anon"] <= (
            kill.decision.memcg_usage.limit or 0 if kill.decision.memcg_usage else 0
        )
        if run.results["v1"]:
            continue
        report = played.log.partition("Memory cgroup stats for ")[2].partition("Tasks state")[0]
        logged = dict(_STATS.findall(report))
        assert {"anon", "file", "shmem", "sock"} <= numbers.stat.keys()
        assert numbers.stat.keys() <= logged.keys()
        assert numbers.stat["anon"] <= int(logged["anon"]) + _HELD_BACK
        assert numbers.events["max"] > 0
        assert bool(numbers.pressure) == run.results["pressure"]


@pytest.mark.parametrize("name", ["memcg", "host", "sysrq", "allocating"])
def test_the_hosts_numbers_are_its_own(played: Played, run: Run, name: str) -> None:
    """Its memory, its pressure where it has such a file, and how it was set at that moment."""
    for _, seen, _ in seen_of(played):
        assert seen.host is not None
        assert seen.host.memory["total"] == run.results["memory"]
        assert 0 < seen.host.memory["available"] < run.results["memory"]
        assert bool(seen.host.pressure) == run.results["pressure"]
        assert seen.vm_sysctl["oom_kill_allocating_task"] == (name == "allocating")
        assert len(seen.vm_sysctl) == 7


@pytest.mark.parametrize(
    ("name", "says"),
    [("other", "alone used"), ("sysrq", "sysrq f"), ("host", "of the host's")],
)
def test_the_advice_is_that_of_the_scenario(played: Played, says: str) -> None:
    """What was made is what the advice is about; it was the first that was killed."""
    kill, seen, scanned = next(seen_of(played))
    kill = replace(kill, tasks=kill.tasks or scanned)
    said = advise(enrich_kill(kill, seen, VictimOutcome(), kill.time_unix_ns, HOST))
    assert said is not None
    assert says in said
