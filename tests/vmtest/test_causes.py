"""The cause of kills of a host that is out of memory for a rare reason, with its evidence.

The guest is that of `test_apparmor`.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import convert
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import TaskList
from tests.testlib.evidence import check_evidence
from tests.testlib.samples.events import HOST
from tests.testlib.samples.otlp import log_attributes
from tests.vmtest.boots import Boots, needs_guest
from tests.vmtest.test_apparmor import KERNEL, boot


@pytest.fixture(params=[pytest.param(KERNEL, marks=needs_guest(boot, KERNEL, waits=True))])
def results(boots: Boots, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the kills of the guest."""
    causes: dict[str, Any] = boots.results((boot, request.param))["causes"]
    return causes


@pytest.mark.parametrize(
    ("scenario", "cause", "decided_by"),
    [
        ("huge_pages", "unreclaimable_memory", {"oom.host.memory.hugetlb"}),
        ("fragmented", "fragmentation", {"oom.request.order"}),
        ("spared", "spared_process", {"oom.decision.message", "oom.victim.score_adj"}),
    ],
)
def test_cause_is_that_of_the_scenario(
    results: dict[str, Any], scenario: str, cause: str, decided_by: set[str]
) -> None:
    """Of the process that was killed first.

    Where a protected process allocates, the kernel chooses by score in spite of
    vm.oom_kill_allocating_task: then the score spared the larger one.
    """
    made = results[scenario]
    kill, snapshot = convert(made["kill"], OomKill), convert(made["snapshot"], Snapshot)
    assert kill.victim.tgid == made["pid"]
    kill = replace(kill, tasks=kill.tasks or convert(made["scanned"], TaskList | None))
    attributes = log_attributes(
        enrich_kill(kill, snapshot, VictimOutcome(), kill.time_unix_ns, HOST)
    )
    assert attributes["oom.cause"] == cause
    assert decided_by & check_evidence(attributes).keys()
