"""The metrics of kills: sums over the agent's lives, by the data model of OpenTelemetry."""

from __future__ import annotations

import time
from pathlib import Path

from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Sum

from otel_oom.agent.metrics.kill_metrics import build_metrics, read_deltas, read_sums
from otel_oom.config.store import StoreLimits
from otel_oom.otlp.kill_counts import format_label
from otel_oom.store import OutboxEntry, Store
from otel_oom.store.counters import KILLS, NO_BOOT, START_TIME
from otel_oom.store.database_file import NAME
from otel_oom.store.types import KillCount

OWN = format_label(
    {
        "oom.outcome": "killed",
        "oom.decision.constraint": "memcg",
        "oom.limit.scope": "own",
    }
)
INITIAL_SERIES = 4
OVERFLOW = {"otel.metric.overflow": True}
NOW = time.time_ns()


def export(counters: dict[str, int], now: int, *, delta: bool) -> Sum:
    """Return the metric's data as exported at ``now``."""
    data = build_metrics(counters, now, delta=delta)[0].data
    assert isinstance(data, Sum)
    assert data.is_monotonic
    return data


def read_sumsers(store: Store) -> dict[str, int]:
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
            data = export(read_sumsers(store), 9, delta=False)
        assert data.aggregation_temporality == AggregationTemporality.CUMULATIVE
        (point,) = (point for point in data.data_points if point.value)
        assert point.value == life
        starts |= {point.start_time_unix_nano for point in data.data_points}
    assert len(starts) == 1
    assert starts.pop() > 0


def test_a_new_database_is_a_new_start(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        queue_kill(store, 1)
        first = read_sums(read_sumsers(store))
    for file in tmp_path.glob("otel-oom.db*"):
        file.unlink()
    with Store(tmp_path) as store:
        second = read_sums(read_sumsers(store))
    assert not any(second.values.values())
    assert second.start_unix_ns >= first.start_unix_ns


def test_a_salvaged_database_keeps_its_count_and_start(tmp_path: Path) -> None:
    """With a new start, earlier kills would seem to have come since then."""
    with Store(tmp_path) as store:
        queue_kill(store, 1)
        first = read_sums(read_sumsers(store))
    (tmp_path / NAME).rename(tmp_path / "otel-oom-20260101T000000Z.db")
    with Store(tmp_path) as store:
        assert read_sums(read_sumsers(store)) == first


def test_series_exist_at_0_before_the_first_kill(tmp_path: Path) -> None:
    """``increase()`` needs a point before it."""
    with Store(tmp_path) as store:
        data = export(read_sumsers(store), 9, delta=False)
    assert [point.value for point in data.data_points] == [0] * INITIAL_SERIES
    assert {(point.attributes or {})["oom.outcome"] for point in data.data_points} == {"killed"}


def test_accepted_deltas_add_up_whatever_fails_between(tmp_path: Path) -> None:
    """Sent, rejected, and sent again in another life: each kill is in one accepted delta."""
    accepted, ends = 0, []
    with Store(tmp_path) as store:
        for number in (1, 2):
            queue_kill(store, number)
        # The backend rejects this one: nothing is noted.
        export(read_sumsers(store), 10, delta=True)
    for now, number in ((20, 3), (30, 4)):
        with Store(tmp_path) as store:
            queue_kill(store, number)
            counters = read_sumsers(store)
            data = export(counters, now, delta=True)
            assert data.aggregation_temporality == AggregationTemporality.DELTA
            accepted += sum(int(point.value) for point in data.data_points)
            ends.append({point.start_time_unix_nano for point in data.data_points})
            store.accepted_deltas.add(read_deltas(counters), {}, now)
    assert accepted == 4
    # Each interval starts where the last accepted one ended.
    assert ends[1] == {20}


def count_kill(store: Store, number: int, service: str, unix_ns: int) -> None:
    """Queue the log of one more kill of a service."""
    kills = KillCount(
        format_label({"service.name": service}), format_label(OVERFLOW), last_unix_ns=unix_ns
    )
    store.enqueue([OutboxEntry(number, str(number), b"log", None, kills=kills)])


def test_a_series_that_is_merged_during_a_request_adds_up(tmp_path: Path) -> None:
    """The delta of ``idle`` is on its way when another takes its place, and when it returns.

    No delta of a monotonic sum is below 0.
    """
    sent: list[tuple[object, float]] = []

    def send(store: Store, *meanwhile: tuple[int, str, int]) -> None:
        overflow, counters = store.accepted_deltas.overflow_names(), read_sumsers(store)
        points = export(counters, NOW, delta=True).data_points
        sent.extend((dict(point.attributes or {}), point.value) for point in points if point.value)
        for kill in meanwhile:
            count_kill(store, *kill)
        store.accepted_deltas.add(read_deltas(counters), overflow, NOW)

    with Store(tmp_path, StoreLimits(max_series=1)) as store:
        for number in range(2):
            count_kill(store, number, "idle", 1)
        send(store)
        for number in range(2, 5):
            count_kill(store, number, "idle", 1)
        send(store, (5, "new", 1), (6, "idle", NOW), (7, "beyond", NOW))
        send(store)
        send(store)
    idle = {"service.name": "idle"}
    assert sent[:2] == [(idle, 2), (idle, 3)]
    assert sorted(sent[2:], key=str) == [(OVERFLOW, 2), (idle, 1)]


def test_labels_in_another_order_are_one_series(tmp_path: Path) -> None:
    """As in the files of versions that kept the order of the user's names.

    Two points of one identity are invalid, and of two samples Prometheus drops one.
    """
    labels = [format_label({"b": 1, "a": "x"}), format_label({"a": "x", "b": 1})]
    with Store(tmp_path) as store:
        for number, label in enumerate(labels):
            kills = KillCount(label, last_unix_ns=(number + 1) * 10**9)
            store.enqueue([OutboxEntry(number, str(number), b"log", None, kills=kills)])
        counters = read_sumsers(store)
        deltas = export(counters, NOW, delta=True).data_points
    points = [*export(counters, NOW, delta=False).data_points, *deltas]
    assert [point.value for point in points if "a" in (point.attributes or {})] == [2, 2]
    last = build_metrics(counters, NOW)[1].data
    assert isinstance(last, Gauge)
    assert [(point.attributes, point.value) for point in last.data_points] == [
        ({"a": "x", "b": 1}, 2)
    ]
