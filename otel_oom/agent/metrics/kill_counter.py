"""``oom.kills``: the number of OOM kills on this host, for alerts.

Each kill is counted on disk, in the transaction that queues its log event: once, even if the agent
crashes. So the sum continues over restarts, and starts when the database was created. The SDK only
has sums that start with the process: this one is added to its data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric, NumberDataPoint, Sum

from otel_oom.otlp import semconv
from otel_oom.otlp.encode import format_label
from otel_oom.store.counters import KILLS, KILLS_START_TIME

_DESCRIPTION: Final = "OOM kills on this host, by outcome."
_UNIT: Final = "{kill}"

_INITIAL_LABELS: Final = tuple(
    format_label("killed", constraint, scope)
    for constraint, scope in (
        ("memcg", "own"),
        ("memcg", "pod"),
        ("memcg", "ancestor"),
        ("none", "host"),
    )
)
"""Series exported at 0 from the start, so that ``increase()`` sees the first kill."""

_EXPORTED: Final = f"exported.{KILLS}"
_EXPORTED_TIME: Final = f"exported.{KILLS_START_TIME}"


@dataclass(frozen=True, slots=True)
class KillCount:
    """Kills by label, and the start of the count."""

    start_unix_ns: int
    values: Mapping[str, int]


def read_count(counters: Mapping[str, int]) -> KillCount:
    """Return the count from the store's counters."""
    return KillCount(counters.get(KILLS_START_TIME, 0), _strip_prefix(KILLS, counters))


def read_exported(counters: Mapping[str, int]) -> KillCount:
    """Return the last count that was accepted as deltas, with its time; 0 at first."""
    if _EXPORTED_TIME not in counters:
        return KillCount(read_count(counters).start_unix_ns, {})
    return KillCount(counters[_EXPORTED_TIME], _strip_prefix(_EXPORTED, counters))


def exported_counters(count: KillCount, now_unix_ns: int) -> dict[str, int]:
    """Return the counters from which :func:`read_exported` reads ``count``."""
    values = {_EXPORTED + key: value for key, value in count.values.items()}
    return {**values, _EXPORTED_TIME: now_unix_ns}


def build_metric(count: KillCount, exported: KillCount | None, now_unix_ns: int) -> Metric:
    """Build the cumulative sum, or with ``exported`` the delta since then."""
    base = exported.values if exported else {}
    points = [
        NumberDataPoint(
            attributes=json.loads(key),
            start_time_unix_nano=(exported or count).start_unix_ns,
            time_unix_nano=now_unix_ns,
            value=value - base.get(key, 0),
        )
        for key, value in {**dict.fromkeys(_INITIAL_LABELS, 0), **count.values}.items()
    ]
    temporality = (
        AggregationTemporality.CUMULATIVE if exported is None else AggregationTemporality.DELTA
    )
    return Metric(semconv.METRIC_KILLS, _DESCRIPTION, _UNIT, Sum(points, temporality, True))  # noqa: FBT003  the SDK's own signature


def _strip_prefix(prefix: str, counters: Mapping[str, int]) -> dict[str, int]:
    return {
        name.removeprefix(prefix): value
        for name, value in counters.items()
        if name.startswith(prefix)
    }
