"""Convert times of the kernel log to CLOCK_BOOTTIME.

The log uses local_clock() (kernel/sched/clock.c), which user space can't read. It stops in suspend,
and runs at the processor's own rate while the others are slewed: they drift apart by seconds within
days. Only the time at which a line was read is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from otel_oom.linux.clock import boottime_ns

_START_DIFFERENCE_NS: Final = 250_000_000
"""Largest time by which the log's clock is behind when the kernel starts."""
_MAX_AHEAD_NS: Final = 30_000_000_000
"""Largest time by which it is ahead then: timekeeping counts ticks until its clocksource is chosen
(clocksource_done_booting()), and loses some of a slow start. Measured on arm64: 0.8 to 3.8 s. No
thread id is used again that soon by a victim of the same name.
"""
_DRIFT_SHIFT: Final = 12
"""Largest drift, 1 part in 4096: adjtimex(2) slews by 500 ppm, of which half is rare."""


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class LogClock:
    """The offset of CLOCK_BOOTTIME to the log's clock, by the line that was read the soonest.

    Each line that is read limits the offset from above: time of reading minus time of printing. So
    does the largest drift since the kernel started, for a line that is old. The smallest limit
    counts, and grows by the largest drift from then on. A converted time is late by about the delay
    of a line that was just printed, well under a millisecond if the reader was waiting. It is never
    early by more than the drift.

    CLOCK_MONOTONIC is used between, which stops in suspend too: only a line printed before a
    suspend and read after it is late by its duration.
    """

    def __init__(
        self,
        monotonic: Callable[[], int] = _monotonic_ns,
        boottime: Callable[[], int] = boottime_ns,
    ) -> None:
        """Measure by these clocks, in nanoseconds."""
        self._monotonic = monotonic
        self._boottime = boottime
        self._offset_ns = _START_DIFFERENCE_NS
        self._measured_ns = 0

    def update(self, log_ns: int) -> None:
        """Measure the offset by a line of that time, which has just been read."""
        now_ns = self._monotonic()
        drift_ns = (now_ns - self._measured_ns) >> _DRIFT_SHIFT
        self._offset_ns = min(now_ns - log_ns, self._offset_ns + drift_ns)
        self._measured_ns = now_ns

    def to_boottime(self, log_ns: int) -> int:
        """Convert a line's time to CLOCK_BOOTTIME; :meth:`update` was called before."""
        return log_ns + self._offset_ns + self._suspended_ns()

    def boottime_of_monotonic(self, monotonic_ns: int) -> int:
        """Return what :meth:`to_boottime` gives for a line of then, to within the tolerance."""
        return monotonic_ns + self._suspended_ns()

    @property
    def tolerance_ns(self) -> int:
        """Largest error of a converted time in either direction, apart from suspends.

        The log's clock can be ahead where it was assumed to be behind.
        """
        drift_ns = self._monotonic() >> _DRIFT_SHIFT
        return _START_DIFFERENCE_NS + _MAX_AHEAD_NS + 2 * drift_ns

    def _suspended_ns(self) -> int:
        return self._boottime() - self._monotonic()
