"""The series of memory usage before a kill."""

from __future__ import annotations

import msgspec

from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import NS_PER_S
from otel_oom.model.usage import Crossing, UsageHistory, UsageSeries


def series(count: int, last_interval_ns: int | None = None) -> UsageSeries:
    return UsageSeries(
        "/job",
        interval_ns=5 * NS_PER_S,
        end_boottime_ns=100 * NS_PER_S,
        values=tuple(range(count)),
        last_interval_ns=last_interval_ns,
    )


def test_the_last_value_is_at_the_end_and_the_others_at_the_interval_before_it() -> None:
    times = [time // NS_PER_S for time in series(4, 2 * NS_PER_S).times_boottime_ns]
    assert times == [88, 93, 98, 100]
    assert [time // NS_PER_S for time in series(3).times_boottime_ns] == [90, 95, 100]
    assert series(1).times_boottime_ns == (100 * NS_PER_S,)
    assert series(0).times_boottime_ns == ()


def test_a_stored_snapshot_of_before_has_no_history_and_a_new_one_keeps_its_own() -> None:
    assert msgspec.json.decode(b'{"process_found":true}', type=Snapshot).usage_history is None
    history = UsageHistory(limit=series(3), crossings=(Crossing(1, None, "pressure"),))
    snapshot = Snapshot(process_found=True, usage_history=history)
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot
