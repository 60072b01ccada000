"""Growth of a cgroup's or the host's memory to its limit, from the usage before a kill."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import NS_PER_S
from otel_oom.model.usage import UsageSeries

APPROACH_PERCENTS: Final = (50, 75, 90)
"""Shares of the limit whose times are those of :class:`Approach`."""

_NEAR_SHARE: Final = 0.9
_MAX_SPIKE_S: Final = 15.0
_MIN_LEAK_S: Final = 30.0
_MIN_PLATEAU_S: Final = 30.0
_MIN_LEAK_POINTS: Final = 5
_MAX_FITTED: Final = 120
"""The fit takes 5 ms for so many."""
_MIN_LEAK_SHARE: Final = 0.02
_MARGIN: Final = 0.05
"""A usage this close to the smallest or to the limit, of the rise, is not of the growth."""
_MAX_DEVIATION: Final = 0.1
"""Median distance of a steady growth from its line, of the rise."""
_MAX_JUMP: Final = 0.25
"""Distance of the line from the usage at the limit, of the rise: else the usage jumped there."""
_LOWERED_SHARE: Final = 1.05
_MAX_FIRST_GAP_S: Final = 30.0
"""The longest time from the creation of a cgroup to its first sample."""

_Point = tuple[float, int]
"""Seconds since the kill, negative before it, and bytes."""


class Approach(Struct, frozen=True):
    """The last time at which the usage rose to ``percent`` of the limit."""

    percent: int
    boottime_ns: int


class Growth(Struct, frozen=True):
    """Growth of the usage up to the limit.

    ``kind`` is ``leak``, ``spike``, ``plateau`` or ``unknown``, which has a ``reason``.
    ``bytes_per_second`` is that of a leak. ``time_above_90_ns`` is the time at or above 90 % of the
    limit, ``age_ns`` that since the cgroup was made. ``duration_ns`` is how long a leak grew, or
    the longest time that a spike can have taken from ``start_bytes``. With ``from_first_sample``
    the growth may have begun before the samples.
    """

    kind: str
    bytes_per_second: float | None = None
    time_above_90_ns: int | None = None
    age_ns: int | None = None
    reason: str | None = None
    duration_ns: int | None = None
    start_bytes: int | None = None
    from_first_sample: bool = False
    approaches: tuple[Approach, ...] = ()


def find_growth(kill: OomKill, snapshot: Snapshot, limit_scope: str | None) -> Growth | None:
    """Return the growth up to the limit of ``kill``; ``None`` without a history or a limit.

    The nodes of a cpuset or of a memory policy have no series.
    """
    history, decision = snapshot.usage_history, kill.decision
    if history is None or decision is None:
        return None
    series, limit = history.limit, None
    if limit_scope == "host":
        series = history.host if decision.constraint == "none" else None
    elif decision.memcg_usage:
        limit = decision.memcg_usage.limit
    limit = limit or (series.limit if series else None)
    return classify_growth(series, limit, kill.boottime_ns) if series and limit else None


def classify_growth(series: UsageSeries, limit: int, marked_boottime_ns: int) -> Growth:
    """Classify the usage of ``series`` up to a kill at its ``limit`` in bytes."""
    points = _points(series, limit, marked_boottime_ns)
    above_s = sum(_time_above(points, limit * _NEAR_SHARE))
    created_ns = series.created_boottime_ns
    growth = Growth(
        kind="unknown",
        time_above_90_ns=int(above_s * NS_PER_S),
        age_ns=None if created_ns is None else max(0, marked_boottime_ns - created_ns),
        reason="unsteady",
        approaches=tuple(_find_approaches(points, limit, marked_boottime_ns)),
    )
    if len(points) < 2:  # noqa: PLR2004  the kill alone
        return Growth("unknown", age_ns=growth.age_ns, reason="no_samples")
    if points[-2][1] > limit * _LOWERED_SHARE:
        return replace(growth, reason="limit_lowered")
    is_held = _is_held(points, limit * _NEAR_SHARE, above_s)
    if not is_held and (rise := _find_rise(points, limit, series.max_gap_ns or 0)):
        took_s, start_bytes, is_between_samples = rise
        growth = replace(growth, duration_ns=int(took_s * NS_PER_S), start_bytes=start_bytes)
        if took_s <= _MAX_SPIKE_S:
            return replace(growth, kind="spike", reason=None)
        if is_between_samples:
            return replace(growth, reason="interval_too_long")
    return _fit_leak(growth, points, limit) or (
        replace(growth, kind="plateau", reason=None) if is_held else growth
    )


def _points(series: UsageSeries, limit: int, marked_boottime_ns: int) -> list[_Point]:
    """Return the samples before the kill, and the kill itself, at the limit.

    A cgroup that was made just before its first sample began with nothing.
    """
    times = [(time - marked_boottime_ns) / NS_PER_S for time in series.times_boottime_ns]
    points = [point for point in zip(times, series.values, strict=True) if point[0] < 0]
    created_ns = series.created_boottime_ns
    if created_ns is not None and created_ns < marked_boottime_ns:
        created_s = (created_ns - marked_boottime_ns) / NS_PER_S
        first_s = points[0][0] if points else created_s
        if not points or 0 < first_s - created_s <= _MAX_FIRST_GAP_S:
            points.insert(0, (created_s, 0))
    return [*points, (0.0, limit)]


def _time_above(points: Sequence[_Point], level: float) -> Iterable[float]:
    """Yield the seconds at or above ``level`` between each two points, by interpolation.

    A jump from below half of it can have been at any moment between both: half of them counts.
    """
    for (begin_s, first), (end_s, last) in pairwise(points):
        low, high = sorted((first, last))
        share = 1.0 if low >= level else 0.0
        if low < level <= high:
            is_jump = low * 2 < level and end_s - begin_s <= _MAX_SPIKE_S
            share = 0.5 if is_jump else (high - level) / (high - low)
        yield share * (end_s - begin_s)


def _is_held(points: Sequence[_Point], level: float, above_s: float) -> bool:
    """Return true if the usage was above ``level`` for long, and mostly since it first was."""
    first_s = next(time_s for time_s, value in points if value >= level)
    return above_s >= max(_MIN_PLATEAU_S, -first_s / 2)


def _find_approaches(
    points: Sequence[_Point], limit: int, marked_boottime_ns: int
) -> Iterable[Approach]:
    """Yield the approaches by interpolation; none where two samples have all of them between."""
    for percent in APPROACH_PERCENTS:
        level = limit * percent / 100
        for (end_s, last), (begin_s, first) in pairwise(reversed(points)):
            if first < level <= last:
                if first * 2 < limit and last >= limit * _NEAR_SHARE:
                    break
                time_s = begin_s + (level - first) / (last - first) * (end_s - begin_s)
                yield Approach(percent, marked_boottime_ns + int(time_s * NS_PER_S))
                break


def _find_rise(
    points: Sequence[_Point], limit: int, max_gap_ns: int
) -> tuple[float, int, bool] | None:
    """Return the seconds of the rise from below half of the limit to near it, for good; its start.

    The third value is true if no sample was between both.
    """
    start = max((n for n, (_, value) in enumerate(points) if value * 2 < limit), default=None)
    if start is None:
        return None
    near = len(points) - 1
    while points[near - 1][1] >= limit * _NEAR_SHARE:
        near -= 1
    took_s, is_between_samples = points[near][0] - points[start][0], near == start + 1
    if is_between_samples and start:
        # The value before may be an old one, repeated.
        took_s = max(took_s, max_gap_ns / NS_PER_S)
    return took_s, points[start][1], is_between_samples


def _fit_leak(growth: Growth, points: Sequence[_Point], limit: int) -> Growth | None:
    """Fit a line to the usage since it last was near its smallest (Theil-Sen estimator).

    Returns ``None`` where it did not grow steadily, or was at the limit for long after that.
    """
    created_s = points[0][0] if points[0][1] == 0 else None
    if created_s is not None:
        # Most programs use some memory at once, and begin to leak later.
        points = points[1:]
    smallest = min(value for _, value in points)
    rise = limit - smallest
    start = max(n for n, (_, value) in enumerate(points) if value <= smallest + rise * _MARGIN)
    full = limit - rise * _MARGIN
    below = [point for point in points[start:] if point[1] < full]
    if len(below) < _MIN_LEAK_POINTS or rise < limit * _MIN_LEAK_SHARE:
        return None
    fitted = below[:: -(-len(below) // _MAX_FITTED)]
    rate = _median((v2 - v1) / (t2 - t1) for (t1, v1), (t2, v2) in combinations(fitted, 2))
    offset = _median(value - rate * time_s for time_s, value in below)
    if rate <= 0:
        return None
    deviation = _median(abs(value - offset - rate * time_s) for time_s, value in below)
    reached_s, reached = next(point for point in points[start:] if point[1] >= full)
    jump = abs(reached - offset - rate * reached_s)
    end_s = (limit - offset) / rate
    if deviation > rise * _MAX_DEVIATION or jump > rise * _MAX_JUMP or end_s < -_MIN_PLATEAU_S:
        return None
    begin_s = min(max((smallest - offset) / rate, points[0][0]), below[1][0])
    if created_s is not None and begin_s <= points[1][0]:
        begin_s = max(created_s, -offset / rate)
    duration_s = min(0.0, end_s) - begin_s
    if duration_s < _MIN_LEAK_S:
        return None
    return replace(
        growth,
        kind="leak",
        reason=None,
        bytes_per_second=rate,
        duration_ns=int(duration_s * NS_PER_S),
        start_bytes=points[start][1],
        from_first_sample=begin_s <= points[1][0] and created_s is None,
    )


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
