"""The event of a cgroup near its limit, as it is sent."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from opentelemetry._logs import SeverityNumber

from otel_oom.config.filters import read_filters
from otel_oom.enrich.event import enrich_event
from otel_oom.enrich.event_filter import EventFilter
from otel_oom.enrich.types import EnrichedEvent, VictimOutcome
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import HostMemory, MemcgStats, Snapshot
from otel_oom.model.types import Memcg, MemcgUsage, OomControl
from otel_oom.model.units import MIB, NS_PER_S
from otel_oom.model.usage import UsageHistory, UsageSeries
from otel_oom.otlp.event import build_event
from otel_oom.store import Store
from tests.testlib.samples.events import CONTAINER_ID, HOST, KILL, roundtrip
from tests.testlib.samples.otlp import log_record

MEMCG = Memcg(id=42, path=f"/docker/{CONTAINER_ID}")
USAGE = MemcgUsage(limit=64 * MIB, usage=62 * MIB, swap_limit=None, swap_usage=0)
NEAR_LIMIT = NearLimit(
    boot_id=KILL.boot_id,
    boottime_ns=500 * NS_PER_S,
    time_unix_ns=KILL.time_unix_ns,
    trigger=None,
    trigger_memcg=MEMCG,
    decision=OomControl("usage", constraint="memcg", memcg=MEMCG, memcg_usage=USAGE),
    memcg=MEMCG,
    memcg_usage=USAGE,
    working_set=58 * MIB,
    threshold_percent=90,
    tasks=KILL.tasks,
)
SNAPSHOT = Snapshot(
    process_found=False,
    boottime_ns=NEAR_LIMIT.boottime_ns,
    limit_cgroup=MemcgStats({"anon": 58 * MIB, "file": 4 * MIB}),
    host=HostMemory({"total": 8 << 30, "available": 5 << 30}),
    usage_history=UsageHistory(
        UsageSeries(
            MEMCG.path,
            5 * NS_PER_S,
            500 * NS_PER_S,
            (30 * MIB, 50 * MIB, 62 * MIB),
            USAGE.limit,
            last_interval_ns=1000,
        )
    ),
)


def enrich(event: NearLimit = NEAR_LIMIT) -> EnrichedEvent:
    return enrich_event(event, SNAPSHOT, VictimOutcome(None), KILL.time_unix_ns + 5, HOST)


def test_it_is_a_warning_with_limit_candidates_and_usage() -> None:
    event = build_event(enrich())
    assert (event.name, event.severity) == ("oom.near_limit", SeverityNumber.WARN)
    assert event.sentence == (
        "Memory is near its limit in container 0123456789ab: 58.0 MiB (90 %) of 64.0 MiB in use; "
        "the largest process is java (pid 4711) with 20.0 MiB."
    )
    attributes = event.attributes
    assert attributes["oom.near_limit.threshold"] == 90
    assert attributes["oom.near_limit.working_set"] == 58 * MIB
    assert attributes["oom.limit.memcg.path"] == MEMCG.path
    assert attributes["oom.limit.memcg.limit"] == 64 * MIB
    assert attributes["oom.limit.memcg.usage"] == 62 * MIB
    assert attributes["oom.limit.memcg.stat.anon"] == 58 * MIB
    assert attributes["oom.growth.limit.usage"] == [30 * MIB, 50 * MIB]
    assert attributes["oom.growth.limit.interval"] == 5.0
    assert attributes["oom.host.memory.total"] == 8 << 30
    largest = attributes["oom.tasks.largest"]
    assert isinstance(largest, list | tuple)
    assert [line.split()[0] for line in largest] == ["pid=4711", "pid=99", "pid=98"]
    # oom_badness() of 21 MiB, with -5 thousandths of the cgroup's 64 MiB (mm/oom_kill.c).
    assert f"points={21 * 256 - 5 * (64 * 256 // 1000)}" in largest[0]
    # The kernel never kills that one.
    assert "points" not in largest[2]
    assert not any("killed" in line for line in largest)
    assert event.resource["container.id"] == CONTAINER_ID
    assert event.to_span() is None


def test_the_record_has_the_time_of_the_sample_and_no_span() -> None:
    record = log_record(enrich())
    assert record.event_name == "oom.near_limit"
    assert record.time_unix_nano == KILL.time_unix_ns
    assert not record.trace_id
    assert not record.span_id


def test_each_approach_has_an_id_of_its_own() -> None:
    later = replace(NEAR_LIMIT, boottime_ns=NEAR_LIMIT.boottime_ns + 1)
    other = Memcg(id=43, path="/docker/other")
    uids = {NEAR_LIMIT.uid, later.uid, replace(NEAR_LIMIT, memcg=other).uid}
    assert len(uids) == 3
    assert roundtrip(NEAR_LIMIT).uid == NEAR_LIMIT.uid


def test_it_is_stored_like_any_event_and_counts_as_no_kill(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.insert(NEAR_LIMIT, SNAPSHOT)
        assert not store.insert(NEAR_LIMIT, SNAPSHOT)
        (pending,) = store.pending_events(10, KILL.boot_id, 0)
        assert pending.event == NEAR_LIMIT
        assert pending.snapshot == SNAPSHOT
        assert pending.span_queued


def test_rules_of_the_user_exclude_it() -> None:
    excluding = EventFilter(read_filters({"OTEL_OOM_EXCLUDE": "cgroup=/docker/*"}))
    assert excluding.find_exclusion(enrich()) == "OTEL_OOM_EXCLUDE"
    including = EventFilter(read_filters({"OTEL_OOM_INCLUDE": "cgroup=/kubepods*"}))
    assert including.find_exclusion(enrich()) == "OTEL_OOM_INCLUDE"


def test_without_processes_the_sentence_has_none() -> None:
    event = build_event(enrich(replace(NEAR_LIMIT, tasks=None, memcg=Memcg(1, "/job"))))
    assert event.sentence.endswith("58.0 MiB (90 %) of 64.0 MiB in use.")
