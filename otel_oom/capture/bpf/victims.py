"""Victims that the kernel side still waits for although they have exited."""

from __future__ import annotations

import struct
import time
from typing import Final

from otel_oom.capture.bpf.maps import Maps
from otel_oom.linux import clock
from otel_oom.linux.process_lookup import ProcessLookup

_VICTIMS: Final = "oom_victims"
_KEY: Final = struct.Struct("=I")
_VALUE: Final = struct.Struct("=QQ24x")
"""``struct victim`` of bpf/maps.bpf.h: start and mark on CLOCK_BOOTTIME, then unread members."""
_MAX_VICTIMS: Final = 8192

_SWEEP_S: Final = 60.0
_MIN_AGE_NS: Final = 10_000_000_000
"""Longer than an exit record needs from the tracepoint to the ring."""


class VictimSweeper:
    """Removal of victims whose exit record will never come.

    A kernel that runs programs of tracepoints with preemption (7.0) skips an exit's program while
    another task's run of it is preempted on that CPU. Such victims would fill the map.
    """

    def __init__(self, loaded: Maps, processes: ProcessLookup | None = None) -> None:
        """Sweep the map of ``loaded``; without a usable /proc nothing is removed."""
        self._maps = loaded
        self._processes = processes or ProcessLookup()
        self._sweep_at = 0.0
        self._removed = 0

    def sweep(self) -> int:
        """Remove them, once a minute at most; return their number since the start."""
        if self._processes.usable and time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + _SWEEP_S
            marked_before_ns = clock.boottime_ns() - _MIN_AGE_NS
            for key, value in self._maps.entries(_VICTIMS, _KEY.size, _VALUE.size, _MAX_VICTIMS):
                (tgid,), (start_ns, marked_ns) = _KEY.unpack(key), _VALUE.unpack(value)
                if marked_ns < marked_before_ns and not self._exists(tgid, start_ns, marked_ns):
                    self._removed += self._maps.delete_entry(_VICTIMS, key)
        return self._removed

    def _exists(self, tgid: int, start_ns: int, marked_ns: int) -> bool:
        shown_ns = self._processes.start_boottime_ns(tgid)
        # The shown start is rounded down; an unknown one precedes the mark.
        return shown_ns is not None and shown_ns <= (start_ns or marked_ns)
