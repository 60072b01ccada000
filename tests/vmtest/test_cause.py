"""The cause of kills on every supported kernel, compared with that kernel's own report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import TaskList
from tests.testlib.evidence import check_evidence
from tests.testlib.samples.events import HOST
from tests.testlib.samples.otlp import log_attributes
from tests.vmtest.guest import GuestRun
from tests.vmtest.scenario_result import ScenarioResult

ONE_CGROUP: Final = ["memcg", "threads", "hostile", "other"]
"""Scenarios with one kill, in one cgroup without children.

As soon as the victim is dead they remove the cgroup, as container runtimes do. On a slow machine
it is gone before its files are read; of all four, at least one is not.
"""

_STATS: Final = re.compile(r"(?:\\x0a|\n|^)(\w+) (\d+)(?=\\x0a|\n|$)")
_TABLE: Final = re.compile(
    r"(?m)^\[ *(?P<pid>\d+)\] +\d+ +\d+ +\d+ +(?P<rss>\d+) .* (?P<adj>-?\d+) +\S.*$"
)


def completed_kills(result: ScenarioResult) -> Iterator[tuple[OomKill, Snapshot, TaskList | None]]:
    """Yield each kill of the scenario with the state that was read of it."""
    events = result.events["libbpf"]
    for kill, snapshot, scanned in zip(events.kills, events.snapshots, events.scanned, strict=True):
        if kill.victim.tgid in result.made.pids:
            yield kill, snapshot, scanned


def kills_in_one_cgroup(
    guest_run: GuestRun,
) -> list[tuple[ScenarioResult, OomKill, Snapshot, TaskList]]:
    """Return those kills whose cgroup still existed when its files were read."""
    scenarios = guest_run.results["scenarios"]
    every = [ScenarioResult.from_json(scenarios[name]) for name in ONE_CGROUP if name in scenarios]
    return [
        (result, kill, snapshot, scanned)
        for result in every
        for kill, snapshot, scanned in completed_kills(result)
        if scanned
    ]


def test_scanned_tasks_are_those_of_the_kernels_table(guest_run: GuestRun) -> None:
    """The same processes with their score, and at least their memory.

    Processes that were not killed run on, and may have more by then.
    """
    assert kills_in_one_cgroup(guest_run)
    for result, kill, _, scanned in kills_in_one_cgroup(guest_run):
        rows = {int(row["pid"]): row for row in _TABLE.finditer(result.log)}
        assert kill.victim.tgid in rows
        assert scanned.memcg == result.made.memcg
        assert {task.tgid for task in scanned.largest} <= rows.keys()
        for task in scanned.largest:
            assert task.memcg == result.made.memcg
            assert task.score_adj == int(rows[task.tgid]["adj"])
            if task.tgid != kill.victim.tgid:
                assert (
                    task.resident
                    >= int(rows[task.tgid]["rss"]) * result.page_bytes - result.slack_bytes
                )


@pytest.mark.parametrize("scenario", ["other"])
def test_a_protected_process_is_among_the_scanned_tasks(result: ScenarioResult) -> None:
    """The allocating process has much of the memory, and can never be chosen."""
    ((_, _, scanned),) = completed_kills(result)
    assert scanned is not None
    (protected,) = (task for task in scanned.largest if task.tgid == result.made.trigger)
    assert protected.score_adj == -1000
    assert protected.resident > 4 << 20


def test_cgroup_statistics_are_those_of_the_cgroup(guest_run: GuestRun) -> None:
    """On v2 each value of the kernel's report is there under the same name."""
    assert kills_in_one_cgroup(guest_run)
    for result, kill, snapshot, _ in kills_in_one_cgroup(guest_run):
        assert kill.decision is not None
        numbers = snapshot.limit_cgroup if kill.decision.memcg else snapshot.victim_cgroup
        assert numbers is not None
        assert numbers.events["oom_kill"] == result.counted
        assert numbers.stat["anon"] <= (
            kill.decision.memcg_usage.limit or 0 if kill.decision.memcg_usage else 0
        )
        if guest_run.results["v1"]:
            continue
        report = result.log.partition("Memory cgroup stats for ")[2].partition("Tasks state")[0]
        logged = dict(_STATS.findall(report))
        assert {"anon", "file", "shmem", "sock"} <= numbers.stat.keys()
        assert numbers.stat.keys() <= logged.keys()
        assert numbers.stat["anon"] <= int(logged["anon"]) + result.slack_bytes
        assert numbers.events["max"] > 0
        assert bool(numbers.pressure) == guest_run.results["pressure"]


@pytest.mark.parametrize("scenario", ["memcg", "host", "sysrq", "allocating"])
def test_host_memory_and_settings_are_those_of_the_kernel(
    result: ScenarioResult, guest_run: GuestRun, scenario: str
) -> None:
    """Memory, pressure where the kernel has it, and the settings at that moment."""
    for _, snapshot, _ in completed_kills(result):
        assert snapshot.host is not None
        assert snapshot.host.memory["total"] == guest_run.results["memory"]
        assert 0 < snapshot.host.memory["available"] < guest_run.results["memory"]
        assert bool(snapshot.host.pressure) == guest_run.results["pressure"]
        assert snapshot.vm_sysctl["oom_kill_allocating_task"] == (scenario == "allocating")
        assert len(snapshot.vm_sysctl) == 7


def find_first_cause(result: ScenarioResult, *, listed: bool = True) -> dict[str, Any]:
    """Return the attributes of the process that was killed first, whose evidence they have."""
    kill, snapshot, scanned = next(completed_kills(result))
    kill = replace(kill, tasks=(kill.tasks or scanned) if listed else None)
    enriched = enrich_kill(kill, snapshot, VictimOutcome(), kill.time_unix_ns, HOST)
    attributes = dict(log_attributes(enriched))
    check_evidence(attributes)
    return attributes


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [("other", "alone used"), ("sysrq", "sysrq f"), ("host", "of the host's")],
)
def test_advice_is_that_of_the_scenario(result: ScenarioResult, expected: str) -> None:
    """For the process that was killed first."""
    assert expected in find_first_cause(result)["oom.advice"]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("memcg", "single_process"),
        ("sysrq", "requested"),
        ("host", "host_memory"),
        ("policy", "numa_constraint"),
        ("cpuset", "numa_constraint"),
    ],
)
def test_cause_is_that_of_the_scenario(result: ScenarioResult, expected: str) -> None:
    """For the process that was killed first; without samples of its usage."""
    assert find_first_cause(result)["oom.cause"] == expected


@pytest.mark.parametrize("scenario", ["host"])
def test_a_host_without_a_process_list_is_exhausted(result: ScenarioResult) -> None:
    """As where the scan came too late."""
    assert find_first_cause(result, listed=False)["oom.cause"] == "host_memory"
