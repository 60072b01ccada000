"""The advice on memory settings: the setting, both sizes, and a value that fits."""

from __future__ import annotations

from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.finding import Finding
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.runtime import GO, JVM, NODEJS, RuntimeSettings
from otel_oom.model.snapshot import HostMemory, MemcgStats
from otel_oom.model.types import Memcg, MemcgUsage, Memory, TaskList
from otel_oom.model.units import MIB
from tests.testlib.samples.events import CONTAINER_ID, HOST, KILL, SNAPSHOT

OWN = f"/docker/{CONTAINER_ID}"


def find_cause(
    name: str, values: dict[str, str], used_mib: int = 500, limit_mib: int | None = 512
) -> Finding:
    """Return the finding on a kill of a process of that size at a limit, or at that of the host."""
    assert KILL.decision is not None
    limit = None if limit_mib is None else limit_mib * MIB
    usage = MemcgUsage(limit, limit, None, None)
    decision = replace(
        KILL.decision,
        constraint="none" if limit is None else "memcg",
        memcg=None if limit is None else Memcg(None, OWN),
        memcg_usage=None if limit is None else usage,
    )
    kill = replace(
        KILL,
        memory=Memory(used_mib * MIB, used_mib * MIB, 0, 0, 0, 0),
        memcg=Memcg(None, OWN),
        memcg_usage=usage,
        decision=decision,
        tasks=TaskList(OWN, 0, 1, 0, ()),
    )
    snapshot = replace(
        SNAPSHOT,
        limit_cgroup=MemcgStats({}),
        host=HostMemory({"total": 512 * MIB, "available": 0}),
        runtime=RuntimeSettings(name, settings=values, is_complete=True),
    )
    enriched = enrich_kill(kill, snapshot, VictimOutcome(), KILL.time_unix_ns, HOST)
    assert enriched.finding is not None
    return enriched.finding


def test_a_heap_as_large_as_the_limit() -> None:
    """The setting, both sizes, and a setting or a limit that fits."""
    finding = find_cause(JVM, {"-Xmx": "512m"})
    assert finding.cause == "runtime_setting"
    assert finding.advice == (
        "The JVM's heap may take 512.0 MiB (-Xmx512m) of the limit of 512.0 MiB: nothing is left "
        "for its threads, metaspace and buffers. Set -XX:MaxRAMPercentage=75, or raise --memory of "
        f"container {CONTAINER_ID[:12]} to 700.0 MiB."
    )
    assert "oom.victim.runtime.settings=-Xmx512m" in finding.evidence
    assert f"oom.limit.memcg.limit={512 * MIB}" in finding.evidence


def test_a_default_that_exceeds_the_limit() -> None:
    finding = find_cause(NODEJS, {}, used_mib=240, limit_mib=256)
    assert finding.cause == "runtime_setting"
    assert finding.advice is not None
    assert finding.advice.startswith(
        "The heap of Node.js may take 256.0 MiB (its default without --max-old-space-size) of the "
        "limit of 256.0 MiB: nothing is left for its new space, code and buffers. Set "
        "--max-old-space-size=192, or raise "
    )


def test_a_part_is_left() -> None:
    advice = find_cause(GO, {"GOMEMLIMIT": "500MiB"}).advice
    assert advice is not None
    assert "only 12.0 MiB are left for what Go's runtime does not count" in advice
    assert "Set GOMEMLIMIT=460MiB" in advice


def test_go_without_a_limit() -> None:
    """No setting is wrong: the cause is the process."""
    finding = find_cause(GO, {})
    assert finding.cause == "single_process"
    assert finding.advice is not None
    assert finding.advice.startswith("The memory of Go has no bound (no GOMEMLIMIT, and GOGC=100 ")
    assert "used 500.0 MiB of the limit of 512.0 MiB. Set GOMEMLIMIT=460MiB, or" in finding.advice


def test_go_without_a_collector() -> None:
    assert find_cause(GO, {"GOGC": "off"}).cause == "runtime_setting"


def test_memory_outside_of_the_heap() -> None:
    finding = find_cause(JVM, {"-Xmx": "128m"})
    assert finding.cause == "single_process"
    assert finding.advice is not None
    assert finding.advice.startswith(
        "The JVM's heap may take 128.0 MiB (-Xmx128m), but java (pid 4"
    )
    assert "at least 372.0 MiB were outside of it, in its threads" in finding.advice


def test_at_the_limit_of_the_host() -> None:
    finding = find_cause(JVM, {"-Xmx": "512m"}, limit_mib=None)
    assert finding.cause == "runtime_setting"
    assert finding.advice is not None
    assert "of the host's 512.0 MiB: nothing is left" in finding.advice
    assert finding.advice.endswith("Set -XX:MaxRAMPercentage=75, or give the host more memory.")


def test_a_small_victim_is_not_explained_by_its_settings() -> None:
    """It used less than half of the limit: something else filled it."""
    assert find_cause(JVM, {"-Xmx": "9g"}, used_mib=200).cause != "runtime_setting"
