"""Events for which the ring buffer had no space, reported once across agents."""

from __future__ import annotations

import ctypes

from otel_oom.capture.bpf.maps import Maps
from otel_oom.capture.bpf.records import Counters, LostKills
from otel_oom.model.loss import LostEvents
from otel_oom.model.text import decode_bytes

_COUNTERS = "oom_counters"
_REPORTED = "oom_reported"
_LOST_KILLS = "oom_lost_kills"
_HOLDER_BYTES = 8
_MAX_HOLDERS = 512


class LostEventCounter:
    """Lost events of the kernel side, less those that an earlier agent reported.

    The reported numbers are in a map beside the counters, and live as long.
    """

    def __init__(self, loaded: Maps) -> None:
        """Read the numbers that were reported before."""
        self._maps = loaded
        self._reported = loaded.value(_REPORTED, ctypes.sizeof(Counters))
        self._base = Counters.from_buffer_copy(self._reported)
        self._victims_by_cgroup: dict[str, int] = {}

    def read(self) -> LostEvents:
        """Return the events lost since an earlier agent's report, and mark them as reported."""
        values = self._maps.values(_COUNTERS, ctypes.sizeof(Counters))
        counters = [Counters.from_buffer_copy(value) for value in values]
        total = Counters(
            lost_victims=sum(counter.lost_victims for counter in counters),
            lost_exits=sum(counter.lost_exits for counter in counters),
        )
        if bytes(total) != self._reported:
            self._maps.set_value(_REPORTED, bytes(total))
            self._reported = bytes(total)
            self._victims_by_cgroup = self._pop_lost_kills()
        return LostEvents(
            victims=total.lost_victims - self._base.lost_victims,
            exits=total.lost_exits - self._base.lost_exits,
            victims_by_cgroup=self._victims_by_cgroup,
        )

    def _pop_lost_kills(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        size = ctypes.sizeof(LostKills)
        for key, value in self._maps.entries(_LOST_KILLS, _HOLDER_BYTES, size, _MAX_HOLDERS):
            lost = LostKills.from_buffer_copy(value)
            name = decode_bytes(lost.name)
            counts[name] = counts.get(name, 0) + lost.count
            self._maps.delete_entry(_LOST_KILLS, key)
        return counts
