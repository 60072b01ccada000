"""``oom.kills``: the sum over the agent's lives, by the data model of OpenTelemetry's metrics."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.sdk.metrics.export import AggregationTemporality, Sum

from otel_oom.agent.metrics import kill_counter
from otel_oom.otlp.kill_label import format_label
from otel_oom.store import OutboxEntry, Store
from otel_oom.store.counters import KILLS, NO_BOOT, START_TIME
from otel_oom.store.database import NAME

OWN = format_label("killed", "memcg", "own")
ZEROS = 4


def told(found: dict[str, int], now: int, *, delta: bool) -> Sum:
    """The metric's data, as it would be sent at ``now``."""
    count = kill_counter.counted(found)
    data = kill_counter.metric(count, kill_counter.told(found) if delta else None, now).data
    assert isinstance(data, Sum)
    assert data.is_monotonic
    return data


def counters(store: Store) -> dict[str, int]:
    """What the exporter reads."""
    return store.counters(NO_BOOT) | store.counters(START_TIME)


def killed(store: Store, number: int) -> None:
    """Queue the log of one kill more."""
    store.enqueue([OutboxEntry(number, str(number), b"log", None, {KILLS + OWN: 1})])


def test_the_sum_goes_on_over_restarts_with_one_start(tmp_path: Path) -> None:
    """Two lives: the second tells the first's kills too, from the same start on."""
    starts = set()
    for life in (1, 2):
        with Store(tmp_path) as store:
            killed(store, life)
            data = told(counters(store), 9, delta=False)
        assert data.aggregation_temporality == AggregationTemporality.CUMULATIVE
        (point,) = (point for point in data.data_points if point.value)
        assert point.value == life
        starts |= {point.start_time_unix_nano for point in data.data_points}
    assert len(starts) == 1
    assert starts.pop() > 0


def test_a_new_database_is_a_new_start(tmp_path: Path) -> None:
    """Who reads the metric can tell that the count began anew, and when."""
    with Store(tmp_path) as store:
        killed(store, 1)
        first = kill_counter.counted(counters(store))
    for file in tmp_path.glob("otel-oom.db*"):
        file.unlink()
    with Store(tmp_path) as store:
        second = kill_counter.counted(counters(store))
    assert not second.values
    assert second.since_unix_ns >= first.since_unix_ns


def test_a_database_that_was_moved_aside_hands_its_count_over(tmp_path: Path) -> None:
    """With its start: else what was counted before would have come since the new one began."""
    with Store(tmp_path) as store:
        killed(store, 1)
        first = kill_counter.counted(counters(store))
    (tmp_path / NAME).rename(tmp_path / "otel-oom-20260101T000000Z.db")
    with Store(tmp_path) as store:
        assert kill_counter.counted(counters(store)) == first


def test_what_can_happen_is_told_at_zero_before_it_does(tmp_path: Path) -> None:
    """An alert on a rise needs the series to be there before the first kill."""
    with Store(tmp_path) as store:
        data = told(counters(store), 9, delta=False)
    assert [point.value for point in data.data_points] == [0] * ZEROS
    assert {(point.attributes or {})["oom.outcome"] for point in data.data_points} == {"killed"}


def test_differences_add_up_whatever_fails_between(tmp_path: Path) -> None:
    """Sent, not taken, sent again in another life: the sum of what was taken is each kill once."""
    taken, ends = 0, []
    with Store(tmp_path) as store:
        for number in (1, 2):
            killed(store, number)
        # The backend does not take this one: nothing is noted.
        told(counters(store), 10, delta=True)
    for now, number in ((20, 3), (30, 4)):
        with Store(tmp_path) as store:
            killed(store, number)
            found = counters(store)
            data = told(found, now, delta=True)
            assert data.aggregation_temporality == AggregationTemporality.DELTA
            taken += sum(int(point.value) for point in data.data_points)
            ends.append({point.start_time_unix_nano for point in data.data_points})
            store.set_counters(NO_BOOT, kill_counter.as_told(kill_counter.counted(found), now))
    assert taken == 4
    # Each interval begins where the last one that was taken ended.
    assert ends[1] == {20}
