"""``oom.kills``: the sum over the agent's lives, by the data model of OpenTelemetry's metrics."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.sdk.metrics.export import AggregationTemporality, Sum

from otel_oom.agent.metrics.kill_counter import (
    build_metric,
    exported_counters,
    read_count,
    read_exported,
)
from otel_oom.otlp.encode import format_label
from otel_oom.store import OutboxEntry, Store
from otel_oom.store.counters import KILLS, NO_BOOT, START_TIME
from otel_oom.store.database_file import NAME

OWN = format_label("killed", "memcg", "own")
INITIAL_SERIES = 4


def export(counters: dict[str, int], now: int, *, delta: bool) -> Sum:
    """Return the metric's data as exported at ``now``."""
    exported = read_exported(counters) if delta else None
    data = build_metric(read_count(counters), exported, now).data
    assert isinstance(data, Sum)
    assert data.is_monotonic
    return data


def read_counters(store: Store) -> dict[str, int]:
    """Read what the exporter reads."""
    return store.counters(NO_BOOT) | store.counters(START_TIME)


def queue_kill(store: Store, number: int) -> None:
    """Queue the log of one more kill."""
    store.enqueue([OutboxEntry(number, str(number), b"log", None, {KILLS + OWN: 1})])


def test_the_sum_continues_over_restarts_with_one_start(tmp_path: Path) -> None:
    starts = set()
    for life in (1, 2):
        with Store(tmp_path) as store:
            queue_kill(store, life)
            data = export(read_counters(store), 9, delta=False)
        assert data.aggregation_temporality == AggregationTemporality.CUMULATIVE
        (point,) = (point for point in data.data_points if point.value)
        assert point.value == life
        starts |= {point.start_time_unix_nano for point in data.data_points}
    assert len(starts) == 1
    assert starts.pop() > 0


def test_a_new_database_is_a_new_start(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        queue_kill(store, 1)
        first = read_count(read_counters(store))
    for file in tmp_path.glob("otel-oom.db*"):
        file.unlink()
    with Store(tmp_path) as store:
        second = read_count(read_counters(store))
    assert not second.values
    assert second.start_unix_ns >= first.start_unix_ns


def test_a_salvaged_database_keeps_its_count_and_start(tmp_path: Path) -> None:
    """With a new start, earlier kills would seem to have come since then."""
    with Store(tmp_path) as store:
        queue_kill(store, 1)
        first = read_count(read_counters(store))
    (tmp_path / NAME).rename(tmp_path / "otel-oom-20260101T000000Z.db")
    with Store(tmp_path) as store:
        assert read_count(read_counters(store)) == first


def test_series_exist_at_0_before_the_first_kill(tmp_path: Path) -> None:
    """``increase()`` needs a point before it."""
    with Store(tmp_path) as store:
        data = export(read_counters(store), 9, delta=False)
    assert [point.value for point in data.data_points] == [0] * INITIAL_SERIES
    assert {(point.attributes or {})["oom.outcome"] for point in data.data_points} == {"killed"}


def test_accepted_deltas_add_up_whatever_fails_between(tmp_path: Path) -> None:
    """Sent, rejected, and sent again in another life: each kill is in one accepted delta."""
    accepted, ends = 0, []
    with Store(tmp_path) as store:
        for number in (1, 2):
            queue_kill(store, number)
        # The backend rejects this one: nothing is noted.
        export(read_counters(store), 10, delta=True)
    for now, number in ((20, 3), (30, 4)):
        with Store(tmp_path) as store:
            queue_kill(store, number)
            counters = read_counters(store)
            data = export(counters, now, delta=True)
            assert data.aggregation_temporality == AggregationTemporality.DELTA
            accepted += sum(int(point.value) for point in data.data_points)
            ends.append({point.start_time_unix_nano for point in data.data_points})
            store.set_counters(NO_BOOT, exported_counters(read_count(counters), now))
    assert accepted == 4
    # Each interval starts where the last accepted one ended.
    assert ends[1] == {20}
