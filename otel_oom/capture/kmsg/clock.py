"""From the clock of the kernel's log to CLOCK_BOOTTIME.

The log's times are of local_clock() (kernel/sched/clock.c). That is no clock which user space can
read: it stands still in suspend, and runs by the processor's own rate while the others are slewed,
so that they part by seconds within days. What can be seen is when a line was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from otel_oom.linux.clock import boottime_ns

_APART_NS: Final = 250_000_000
"""How far apart the clocks may begin, as the kernel starts."""
_DRIFT_SHIFT: Final = 12
"""By 1 part in 4096 the clocks part at most: adjtimex(2) slews by 500 ppm, half of it is rare."""


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class LogClock:
    """The distance of two clocks, by the line that was read the soonest after it was printed.

    Each line read bounds it from above: time of reading minus time of printing; and so does what
    the clocks may have parted since the kernel started, where the last line is from long ago. The
    smallest such difference counts, and grows with time as far as the clocks may have parted since.
    So a time told is late by about as long as it takes to read a line that has just been printed,
    well under a millisecond if the reader was waiting, and never early by more than the drift.
    CLOCK_MONOTONIC stands between, which stops in suspend as well: only a line printed before a
    suspend and read after it is told as late as that took.
    """

    def __init__(
        self,
        monotonic: Callable[[], int] = _monotonic_ns,
        boottime: Callable[[], int] = boottime_ns,
    ) -> None:
        """Measure by these clocks, in nanoseconds."""
        self._monotonic = monotonic
        self._boottime = boottime
        self._offset = _APART_NS
        self._measured_ns = 0

    def note(self, log_ns: int) -> None:
        """A line of that time has just been read."""
        now = self._monotonic()
        parted = (now - self._measured_ns) >> _DRIFT_SHIFT
        self._offset, self._measured_ns = min(now - log_ns, self._offset + parted), now

    def told_at(self, monotonic_ns: int) -> int:
        """What :meth:`boottime_of` a line would be that was printed then, but for its doubt."""
        return monotonic_ns + self._boottime() - self._monotonic()

    @property
    def doubt_ns(self) -> int:
        """By how much a time told may be wrong, in either direction, suspends apart.

        The log's clock can be as much ahead as it was taken to be behind.
        """
        return 2 * (_APART_NS + (self._monotonic() >> _DRIFT_SHIFT))

    def boottime_of(self, log_ns: int) -> int:
        """A line's time on CLOCK_BOOTTIME; a line has been noted before."""
        asleep = self._boottime() - self._monotonic()
        return log_ns + self._offset + asleep
