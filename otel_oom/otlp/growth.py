"""Growth up to the limit: attributes, a clause of the sentence, and events of the span."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from opentelemetry.sdk.trace import Event

from otel_oom.enrich.growth import Growth
from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.event_base import OomEvent
from otel_oom.model.units import NS_PER_S, format_bytes, format_duration
from otel_oom.model.usage import UsageHistory, UsageSeries
from otel_oom.otlp import semconv
from otel_oom.otlp.entity_attributes import format_unix_ns
from otel_oom.otlp.semconv import Value

_MAX_VALUES: Final = 240
"""Twice as many as the default history has. The newest are sent."""
_SERIES: Final = {
    "limit": (
        *(semconv.GROWTH_LIMIT_USAGE, semconv.GROWTH_LIMIT_INTERVAL),
        semconv.GROWTH_LIMIT_END_TIME,
    ),
    "victim": (
        *(semconv.GROWTH_VICTIM_USAGE, semconv.GROWTH_VICTIM_INTERVAL),
        semconv.GROWTH_VICTIM_END_TIME,
    ),
    "host": (
        *(semconv.GROWTH_HOST_USAGE, semconv.GROWTH_HOST_INTERVAL),
        semconv.GROWTH_HOST_END_TIME,
    ),
}


def growth_attributes(enriched: EnrichedKill) -> dict[str, Value | None]:
    """Return the growth, and the usage before the kill; that of the host for its own memory."""
    history, growth = enriched.snapshot.usage_history, enriched.growth or Growth("unknown")
    attributes: dict[str, Value | None] = {
        semconv.GROWTH_KIND: enriched.growth.kind if enriched.growth else None,
        semconv.GROWTH_REASON: growth.reason,
        semconv.GROWTH_RATE: None
        if growth.bytes_per_second is None
        else round(growth.bytes_per_second),
        semconv.GROWTH_DURATION: _seconds(growth.duration_ns),
        semconv.GROWTH_TIME_NEAR_LIMIT: _seconds(growth.time_above_90_ns),
        semconv.GROWTH_AGE: _seconds(growth.age_ns),
    }
    if history:
        host = history.host if enriched.limit_scope == "host" else None
        for name, series in (("limit", history.limit), ("victim", history.victim), ("host", host)):
            attributes |= _series_attributes(_SERIES[name], series, enriched.event)
    return attributes


def limit_series_attributes(
    history: UsageHistory | None, event: OomEvent
) -> dict[str, Value | None]:
    """Return the usage of the limit's cgroup alone."""
    return _series_attributes(_SERIES["limit"], history.limit if history else None, event)


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else round(ns / NS_PER_S, 3)


def _series_attributes(
    names: tuple[str, str, str], series: UsageSeries | None, event: OomEvent
) -> dict[str, Value | None]:
    """Return the samples up to the kill that are an interval apart."""
    if series is None:
        return {}
    samples = list(zip(series.times_boottime_ns, series.values, strict=True))
    if series.last_interval_ns not in {None, series.interval_ns}:
        samples.pop()
    samples = [sample for sample in samples if sample[0] <= event.boottime_ns][-_MAX_VALUES:]
    if not samples:
        return {}
    usage, interval, end_time = names
    return {
        usage: [value for _, value in samples],
        interval: series.interval_ns / NS_PER_S,
        end_time: format_unix_ns(event.to_unix_ns(samples[-1][0])),
    }


def growth_clause(growth: Growth | None) -> str:
    """Return the clause that follows the limit in the sentence; empty where it is not known."""
    match growth:
        case Growth("leak", bytes_per_second=float(rate), duration_ns=int(duration_ns)):
            least = "at least " if growth.from_first_sample else ""
            duration = f"{least}{format_duration(duration_ns)}"
            return f", after its usage grew {format_bytes(round(rate))} a second for {duration}"
        case Growth("spike", duration_ns=int(duration_ns), start_bytes=int(start_bytes)):
            duration = format_duration(duration_ns)
            return f", after its usage rose from {format_bytes(start_bytes)} within {duration}"
        case Growth("plateau", time_above_90_ns=int(above_ns)):
            return f", after {format_duration(above_ns)} at 90 % or more"
    return ""


def approach_events(enriched: EnrichedKill) -> Iterator[Event]:
    """Yield a span event for each share of the limit that the usage rose to."""
    for approach in enriched.growth.approaches if enriched.growth else ():
        attributes = {semconv.GROWTH_PERCENT: approach.percent}
        time_unix_ns = enriched.event.to_unix_ns(approach.boottime_ns)
        yield Event(semconv.EVENT_LIMIT_APPROACHED, attributes, time_unix_ns)
