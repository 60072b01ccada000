"""Conversion of the kernel log's times to CLOCK_BOOTTIME."""

from __future__ import annotations

from otel_oom.capture.kmsg.clock import LogClock

SECOND = 10**9


class Clocks:
    """Clocks that stand until they are set."""

    def __init__(self) -> None:
        self.monotonic = 0
        self.boottime = 0

    def log_clock(self) -> LogClock:
        """Return a log clock by these."""
        return LogClock(lambda: self.monotonic, lambda: self.boottime)


def test_line_that_is_read_soonest_sets_the_offset() -> None:
    clocks = Clocks()
    clock = clocks.log_clock()
    for printed, late in ((100, 3), (101, 0), (102, 9)):
        clocks.monotonic = clocks.boottime = (printed + late) * SECOND
        clock.update(printed * SECOND)
    assert 0 <= clock.to_boottime(102 * SECOND) - 102 * SECOND <= 10 * SECOND >> 12


def test_error_of_a_line_that_is_read_late_is_the_drift_since_boot() -> None:
    clocks = Clocks()
    clock = clocks.log_clock()
    clocks.monotonic = clocks.boottime = 7200 * SECOND
    clock.update(60 * SECOND)
    assert 0 <= clock.to_boottime(60 * SECOND) - 60 * SECOND <= 2.1 * SECOND


def test_drift_is_followed() -> None:
    """50 parts per million in either direction, for a day."""
    for parts in (-50, 50):
        clocks = Clocks()
        clock = clocks.log_clock()
        for hours in range(25):
            now = hours * 3600 * SECOND
            clocks.monotonic = clocks.boottime = now
            clock.update(now + now * parts // 10**6)
        assert clock.to_boottime(now + now * parts // 10**6) == now


def test_suspended_time_is_added() -> None:
    """The log clock stops in suspend, CLOCK_BOOTTIME does not."""
    clocks = Clocks()
    clock = clocks.log_clock()
    clocks.monotonic, clocks.boottime = 10 * SECOND, 10 * SECOND
    clock.update(10 * SECOND)
    clocks.monotonic, clocks.boottime = 11 * SECOND, 711 * SECOND
    clock.update(11 * SECOND)
    assert clock.to_boottime(11 * SECOND) == 711 * SECOND


def test_a_log_that_began_ahead_is_within_the_tolerance() -> None:
    """By 3.8 s on a slow arm64 machine, which lost ticks before it chose its clocksource."""
    clocks = Clocks()
    clock = clocks.log_clock()
    clocks.monotonic = clocks.boottime = 60 * SECOND
    clock.update(10 * SECOND)
    marked = 10 * SECOND - 3_800_000_000
    difference = clock.to_boottime(10 * SECOND) - clock.boottime_of_monotonic(marked)
    assert abs(difference) <= clock.tolerance_ns
