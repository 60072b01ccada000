"""Memory usage of cgroups and of the host in the minutes before a kill."""

from __future__ import annotations

from msgspec import Struct


class UsageSeries(Struct, frozen=True):
    """Memory usage of a cgroup or of the host, sampled at a regular interval.

    ``path`` is that of the cgroup, ``None`` for the host. ``values`` are in bytes, oldest first;
    their times are :attr:`times_boottime_ns`. The last value is at ``end_boottime_ns`` on
    CLOCK_BOOTTIME, ``last_interval_ns`` after the one before it: at a kill, less than
    ``interval_ns``. Where a cgroup was sampled less often, the last value read is repeated, and
    ``max_gap_ns`` is the longest time between two values that were read. ``limit`` is the smallest
    limit at or above the cgroup, of the host its memory. ``created_boottime_ns`` is the latest time
    at which the cgroup was made, ``None`` where unknown.
    """

    path: str | None
    interval_ns: int
    end_boottime_ns: int
    values: tuple[int, ...]
    limit: int | None = None
    created_boottime_ns: int | None = None
    last_interval_ns: int | None = None
    max_gap_ns: int | None = None

    @property
    def times_boottime_ns(self) -> tuple[int, ...]:
        """The time of each value on CLOCK_BOOTTIME, in nanoseconds."""
        last = self.interval_ns if self.last_interval_ns is None else self.last_interval_ns
        before = self.end_boottime_ns - last
        regular = range(len(self.values) - 2, -1, -1)
        times = (*(before - steps * self.interval_ns for steps in regular), self.end_boottime_ns)
        return times[: len(self.values)] if self.values else ()


class Crossing(Struct, frozen=True):
    """The moment at which the kernel signalled a shortage in a cgroup or on the host.

    ``path`` is as in :class:`UsageSeries`. ``kind`` is ``high`` or ``max`` (``memory.events``, or
    ``memory.failcnt`` of cgroup v1), ``threshold`` (cgroup v1: 90 % of the limit) or ``pressure``
    (PSI of the host).
    """

    boottime_ns: int
    path: str | None
    kind: str


class UsageHistory(Struct, frozen=True):
    """Usage in the minutes before a kill: of the limit's cgroup, the victim's and the host.

    ``victim`` is ``None`` where its cgroup is that of the limit. ``crossings`` are those of the
    same cgroups and the host, oldest first.
    """

    limit: UsageSeries | None = None
    victim: UsageSeries | None = None
    host: UsageSeries | None = None
    crossings: tuple[Crossing, ...] = ()
