"""``oom.kills``: how many processes were killed for want of memory on this host, for alerts.

Each kill is counted on the disk, in the step that queues its log event: once, whatever happens to
the agent. So the sum goes on over restarts, and its start is when that disk's count began. The
SDK knows only sums that begin with the process: this one is joined to what it gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric, NumberDataPoint, Sum

from otel_oom.otlp import semconv
from otel_oom.otlp.kill_label import format_label
from otel_oom.store.counters import KILLS, KILLS_START_TIME

_DESCRIPTION: Final = "OOM kills on this host, by outcome."
_UNIT: Final = "{kill}"

_AT_ZERO: Final = tuple(
    format_label("killed", constraint, scope)
    for constraint, scope in (
        ("memcg", "own"),
        ("memcg", "pod"),
        ("memcg", "ancestor"),
        ("none", "host"),
    )
)
"""What is told before it has happened: an alert on a rise does not see a series begin at one."""

_TOLD: Final = f"told.{KILLS}"
_TOLD_SINCE: Final = f"told.{KILLS_START_TIME}"


@dataclass(frozen=True, slots=True)
class Count:
    """The kills by label, and since when they are counted."""

    since_unix_ns: int
    values: Mapping[str, int]


def counted(counters: Mapping[str, int]) -> Count:
    """The count out of the store's counters."""
    return Count(counters.get(KILLS_START_TIME, 0), _behind(KILLS, counters))


def told(counters: Mapping[str, int]) -> Count:
    """What a backend that wants differences has last taken, and when; at first nothing."""
    if _TOLD_SINCE not in counters:
        return Count(counted(counters).since_unix_ns, {})
    return Count(counters[_TOLD_SINCE], _behind(_TOLD, counters))


def as_told(count: Count, now_unix_ns: int) -> dict[str, int]:
    """The counters that :func:`told` finds ``count`` by."""
    values = {_TOLD + key: value for key, value in count.values.items()}
    return {**values, _TOLD_SINCE: now_unix_ns}


def metric(count: Count, before: Count | None, now_unix_ns: int) -> Metric:
    """The sum up to now, since the count began; or, with ``before``, what has come since then."""
    delta = before is not None
    base = before.values if before else {}
    points = [
        NumberDataPoint(
            attributes=json.loads(key),
            start_time_unix_nano=(before or count).since_unix_ns,
            time_unix_nano=now_unix_ns,
            value=value - base.get(key, 0),
        )
        for key, value in {**dict.fromkeys(_AT_ZERO, 0), **count.values}.items()
    ]
    temporality = AggregationTemporality.DELTA if delta else AggregationTemporality.CUMULATIVE
    return Metric(semconv.METRIC_KILLS, _DESCRIPTION, _UNIT, Sum(points, temporality, True))  # noqa: FBT003  the SDK's own signature


def _behind(prefix: str, counters: Mapping[str, int]) -> dict[str, int]:
    return {
        name.removeprefix(prefix): value
        for name, value in counters.items()
        if name.startswith(prefix)
    }
