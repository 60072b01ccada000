"""Memory usage in the minutes before the kill, and how it came to the limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from otel_oom.commands.elements import Curve, Element, Section, known_facts
from otel_oom.commands.history.page.timeline import format_distance, parse_unix_ns
from otel_oom.model.units import NS_PER_S, format_bytes, format_duration
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_REASONS: Final = {
    "no_samples": "the usage was not sampled before the kill",
    "limit_lowered": "the usage was above the limit before, which was lowered",
    "interval_too_long": "it rose between two samples, which are too far apart",
    "unsteady": "it rose neither steadily nor within seconds",
}
_SERIES: Final = {
    "usage": (
        *(semconv.GROWTH_LIMIT_USAGE, semconv.GROWTH_LIMIT_INTERVAL),
        *(semconv.GROWTH_LIMIT_END_TIME, semconv.LIMIT_MEMCG_LIMIT),
    ),
    "victim's own": (
        *(semconv.GROWTH_VICTIM_USAGE, semconv.GROWTH_VICTIM_INTERVAL),
        *(semconv.GROWTH_VICTIM_END_TIME, semconv.VICTIM_MEMCG_LIMIT),
    ),
    "host": (
        *(semconv.GROWTH_HOST_USAGE, semconv.GROWTH_HOST_INTERVAL),
        *(semconv.GROWTH_HOST_END_TIME, f"{semconv.HOST_MEMORY}.total"),
    ),
}


def describe_growth(event: DecodedEvent) -> Section | None:
    """Return the section; ``None`` without usage from before the kill."""
    elements = tuple(_elements(event))
    return Section("growth", "Before the kill", elements) if elements else None


def _elements(event: DecodedEvent) -> Iterator[Element]:
    attributes = event.attributes
    yield from known_facts("growth", _sentence(event), "strong")
    near_s, age_s = (
        attributes.number(name) for name in (semconv.GROWTH_TIME_NEAR_LIMIT, semconv.GROWTH_AGE)
    )
    yield from known_facts("near limit", _duration(near_s, "at 90 % of the limit or more"))
    yield from known_facts("cgroup age", _duration(age_s, "since it was created"))
    for label, (usage, interval, end_time, limit) in _SERIES.items():
        values = attributes.integers(usage)
        interval_s, end_ns = attributes.number(interval), parse_unix_ns(attributes.text(end_time))
        if values and interval_s and end_ns is not None:
            end_s = (end_ns - event.unix_ns) / NS_PER_S
            yield _curve(label, values, interval_s, end_s, attributes.integer(limit))


def _sentence(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    kind = attributes.text(semconv.GROWTH_KIND)
    duration = _duration(attributes.number(semconv.GROWTH_DURATION))
    rate = attributes.integer(semconv.GROWTH_RATE)
    match kind:
        case "leak" if rate is not None and duration:
            return f"leak: {format_bytes(rate)} a second for {duration}"
        case "spike" if duration:
            return f"spike: from below half of the limit within {duration}"
        case "unknown":
            reason = attributes.text(semconv.GROWTH_REASON) or ""
            return f"unknown: {_REASONS.get(reason, reason)}"
    return kind


def _duration(seconds: float | None, suffix: str = "") -> str | None:
    if seconds is None:
        return None
    return " ".join(filter(None, (format_duration(int(seconds * NS_PER_S)), suffix)))


def _curve(
    label: str, values: tuple[int, ...], interval_s: float, end_s: float, limit: int | None
) -> Curve:
    """Return the samples; the kill itself, at the limit, is the last point of its cgroup."""
    begin_s = end_s - interval_s * (len(values) - 1)
    whole = max(limit or 0, *values, 1)
    last = whole if label != "victim's own" and limit else values[-1]
    scale_s = -min(begin_s, -interval_s)
    times = (1 + (begin_s + interval_s * number) / scale_s for number in range(len(values)))
    shares = (value / whole for value in values)
    return Curve(
        label,
        (*zip(times, shares, strict=True), (1.0, last / whole)),
        top=f"{format_bytes(whole)}{', the limit' if limit == whole else ''}",
        begin=format_distance(int(-scale_s * NS_PER_S)),
        end="kill",
    )
