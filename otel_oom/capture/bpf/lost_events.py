"""What the kernel's buffer had no room for, told once, whichever agent is there to tell it."""

from __future__ import annotations

import ctypes

from otel_oom.capture.bpf.maps import Maps
from otel_oom.capture.bpf.records import Counters
from otel_oom.model.events import LostEvents


class LostEventCounter:
    """The counters of the kernel side, less what an earlier agent has told of them.

    What was told stands beside them, and lives as long as they do.
    """

    def __init__(self, loaded: Maps) -> None:
        """Read what was told before."""
        self._object = loaded
        raw = loaded.value("oom_reported", ctypes.sizeof(Counters))
        self._before = Counters.from_buffer_copy(raw)
        self._told = raw

    def read(self) -> LostEvents:
        """The losses since an earlier agent has last told of them; as of now they are told."""
        values = self._object.values("oom_counters", ctypes.sizeof(Counters))
        counters = [Counters.from_buffer_copy(value) for value in values]
        total = Counters(
            lost_victims=sum(counter.lost_victims for counter in counters),
            lost_exits=sum(counter.lost_exits for counter in counters),
        )
        if bytes(total) != self._told:
            self._object.set_value("oom_reported", bytes(total))
            self._told = bytes(total)
        return LostEvents(
            victims=total.lost_victims - self._before.lost_victims,
            exits=total.lost_exits - self._before.lost_exits,
        )
