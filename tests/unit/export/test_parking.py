"""Places of parked and of deferred messages: each has its own number of them."""

from __future__ import annotations

import pytest

from otel_oom.export import parking
from otel_oom.export.parking import Parking


def test_deferred_messages_take_no_place_of_parked_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "_MAX_PARKED", 2)
    monkeypatch.setattr(parking, "_MAX_DEFERRED", 5)
    places = Parking()
    for number in range(3):
        places.defer(f"deferred-{number}", 60.0)
    waits_s = [places.park(f"parked-{number}", None) for number in range(3)]
    assert [wait_s is None for wait_s in waits_s] == [False, False, True]
    assert (places.count, places.free_count) == (2, 2)
    assert places.park("parked-0", None), "it has its place"
    places.release("parked-0")
    assert places.park("deferred-0", None), "the backend keeps rejecting it"
    assert (places.count, places.free_count) == (2, 3)
