"""The metrics of kills, for alerts: how many, when the last one was, and what victims held.

Each kill is counted on disk, in the transaction that queues its log event: once, even if the agent
crashes. So the sums continue over restarts, and start when the database was created. The SDK only
has sums that start with the process: these are added to its data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.otlp.kill_counts import MEMORY_BOUNDS_BYTES, MEMORY_SUM, format_label
from otel_oom.otlp.semconv import Value
from otel_oom.store.counters import (
    EXPORTED,
    EXPORTED_TIME,
    KILLS,
    KILLS_START_TIME,
    LAST_KILL,
    VICTIM_MEMORY,
)

_INITIAL_LABELS: Final = tuple(
    format_label(
        {
            semconv.OUTCOME: "killed",
            semconv.DECISION_CONSTRAINT: constraint,
            semconv.LIMIT_SCOPE: scope,
        }
    )
    for constraint, scope in (
        ("memcg", "own"),
        ("memcg", "pod"),
        ("memcg", "ancestor"),
        ("none", "host"),
    )
)
"""Series exported at 0 from the start, so that ``increase()`` sees the first kill."""

_SUMS: Final = (KILLS, VICTIM_MEMORY)


class KillSums(Struct, frozen=True):
    """Counters of kills and of their memory, and the start of the sums."""

    start_unix_ns: int
    values: Mapping[str, int]

    def subtract(self, exported: KillSums) -> KillSums:
        """Return the sums since those that were ``exported``."""
        base = exported.values
        values = {name: value - base.get(name, 0) for name, value in self.values.items()}
        return KillSums(exported.start_unix_ns, values)


def read_sums(counters: Mapping[str, int]) -> KillSums:
    """Return the sums from the store's counters."""
    values = {name: value for name, value in counters.items() if name.startswith(_SUMS)}
    initial = {KILLS + label: 0 for label in _INITIAL_LABELS}
    return KillSums(counters.get(KILLS_START_TIME, 0), initial | values)


def read_exported(counters: Mapping[str, int]) -> KillSums:
    """Return the last sums that were accepted as deltas, with their time; 0 at first."""
    if EXPORTED_TIME not in counters:
        return KillSums(read_sums(counters).start_unix_ns, {})
    return KillSums(counters[EXPORTED_TIME], dict(_with_prefix(EXPORTED, counters)))


def read_deltas(counters: Mapping[str, int]) -> dict[str, int]:
    """Return what each counter has more than its accepted deltas."""
    deltas = read_sums(counters).subtract(read_exported(counters)).values
    return {name: delta for name, delta in deltas.items() if delta}


def build_metrics(
    counters: Mapping[str, int], now_unix_ns: int, *, delta: bool = False
) -> list[Metric]:
    """Build the metrics from the store's counters, with sums since the last deltas if ``delta``."""
    sums = read_sums(counters)
    temporality = AggregationTemporality.CUMULATIVE
    if delta:
        sums, temporality = sums.subtract(read_exported(counters)), AggregationTemporality.DELTA
    kills = [
        NumberDataPoint(attributes, sums.start_unix_ns, now_unix_ns, sum(values))
        for attributes, values in _by_attributes(_with_prefix(KILLS, sums.values))
    ]
    last = [
        NumberDataPoint(attributes, 0, now_unix_ns, max(values) / NS_PER_S)
        for attributes, values in _by_attributes(_with_prefix(LAST_KILL, counters))
    ]
    metrics = [
        Metric(
            semconv.METRIC_KILLS,
            "OOM kills on this host, by outcome and owner.",
            "{kill}",
            Sum(kills, temporality, True),  # noqa: FBT003  the SDK's own signature
        ),
        Metric(
            semconv.METRIC_LAST_KILL_TIME,
            "Time of the last OOM kill, by outcome and owner.",
            "s",
            Gauge(last),
        ),
        Metric(
            semconv.METRIC_VICTIM_MEMORY,
            "Resident memory of victims when they were killed.",
            "By",
            Histogram(_memory_points(sums, now_unix_ns), temporality),
        ),
    ]
    return [metric for metric in metrics if metric.data.data_points]


def _by_attributes(
    counters: Iterable[tuple[str, int]],
) -> Iterable[tuple[dict[str, Value], list[int]]]:
    """Return the values of each label; those that differ only in their order are equal.

    Labels of earlier versions have the order in which the user named the attributes.
    """
    grouped: dict[str, tuple[dict[str, Value], list[int]]] = {}
    for label, value in counters:
        attributes = json.loads(label)
        key = json.dumps(attributes, sort_keys=True)
        grouped.setdefault(key, (attributes, []))[1].append(value)
    return grouped.values()


def _memory_points(sums: KillSums, now_unix_ns: int) -> list[HistogramDataPoint]:
    parts: dict[str, dict[str, int]] = {}
    for name, value in _with_prefix(VICTIM_MEMORY, sums.values):
        part, _, label = name.partition(".")
        parts.setdefault(label, {})[part] = value
    points = []
    for label, values in parts.items():
        buckets = [values.get(str(index), 0) for index in range(len(MEMORY_BOUNDS_BYTES) + 1)]
        points.append(
            # The extremes are optional in OTLP; of the SDK's type they are not.
            HistogramDataPoint(
                attributes=json.loads(label),
                start_time_unix_nano=sums.start_unix_ns,
                time_unix_nano=now_unix_ns,
                count=sum(buckets),
                sum=values.get(MEMORY_SUM, 0),
                bucket_counts=buckets,
                explicit_bounds=MEMORY_BOUNDS_BYTES,
                min=None,  # type: ignore[arg-type]
                max=None,  # type: ignore[arg-type]
            )
        )
    return points


def _with_prefix(prefix: str, counters: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    """Yield the counters that begin with ``prefix``, without it."""
    for name, value in counters.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), value
