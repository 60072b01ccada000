"""Cause and advice by the growth up to the limit."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.enrich.advice import decide_cause
from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.runtime import GO, RuntimeSettings
from otel_oom.model.units import MIB
from otel_oom.model.usage import UsageHistory
from otel_oom.otlp.event import build_event
from tests.testlib.evidence import check_evidence
from tests.testlib.samples.usage import Usage, enriched_kill, leak, plateau, sample_series, spike


def grown(usage: Usage, resident: int = 100 * MIB) -> EnrichedKill:
    """Return a kill at a limit of 128 MiB with a victim of that size."""
    kill = enriched_kill(UsageHistory(limit=sample_series(usage)))
    victim, *others = kill.ranked_tasks
    victim = replace(victim, task=replace(victim.task, resident=resident, page_tables=0))
    assert kill.event.memory
    memory = replace(kill.event.memory, anon=resident, file=0, shmem=0, page_tables=0)
    kill = replace(kill, event=replace(kill.event, memory=memory), ranked_tasks=(victim, *others))
    return replace(kill, finding=decide_cause(kill))


@pytest.mark.parametrize(
    ("usage", "cause", "advice"),
    [
        (
            leak,
            "leak",
            (
                "alone used 100.0 MiB of the limit of 128.0 MiB, after its usage grew 2.0 MiB a "
                "second for 64 s. Find what keeps this memory. Raising the limit of /docker only"
            ),
        ),
        (
            spike,
            "spike",
            (
                "alone used 100.0 MiB of the limit of 128.0 MiB, which was reached within 2.0 s. "
                "Look for one large request, file or batch, and handle it in parts, or raise the "
                "limit of /docker"
            ),
        ),
        (plateau, "single_process", "alone used 100.0 MiB of the limit of 128.0 MiB. Reduce"),
    ],
)
def test_growth_decides_for_one_large_process(usage: Usage, cause: str, advice: str) -> None:
    kill = grown(usage)
    assert kill.finding
    assert kill.finding.cause == cause
    assert advice in (kill.finding.advice or "")
    evidence = check_evidence(build_event(kill).attributes)
    assert ("oom.growth.kind" in evidence) == (cause != "single_process")
    assert evidence["oom.victim.memory.resident"] == str(100 * MIB)


def test_a_leak_of_several_processes_names_none() -> None:
    kill = grown(leak, resident=20 * MIB)
    assert kill.finding
    assert kill.finding.cause == "leak"
    assert (kill.finding.advice or "").startswith("The cgroup used all of its limit of 128.0 MiB,")
    evidence = check_evidence(build_event(kill).attributes)
    assert evidence.keys() == {
        *("oom.growth.kind", "oom.growth.rate", "oom.growth.duration", "oom.limit.memcg.limit")
    }


def test_a_spike_of_a_runtime_without_a_bound_has_the_setting_to_make() -> None:
    """The growth decides the cause, and the runtime the advice."""
    kill = grown(spike)
    snapshot = replace(kill.snapshot, runtime=RuntimeSettings(GO, is_complete=True))
    finding = decide_cause(replace(kill, snapshot=snapshot))
    assert finding
    assert finding.cause == "spike"
    assert finding.advice
    assert (
        "128.0 MiB, which was reached within 2.0 s. The memory of Go has no bound" in finding.advice
    )
    assert "GOMEMLIMIT=115MiB" in finding.advice
