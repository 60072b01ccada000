"""Instruments of filters and processors, where there are any."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_oom.agent.stats import Stats
from otel_oom.otlp import semconv
from otel_oom.store import Store
from otel_oom.store.counters import EXCLUDED, NO_BOOT

_UNIT: Final = "{event}"


def add_processing(meter: Meter, stats: Stats, store: Store, excluders: Sequence[str]) -> None:
    """Add the counts of what ``excluders`` excluded, and of the failures of processors."""
    before = _count_excluded(store, excluders)

    def observe_excluded(_: CallbackOptions) -> Iterable[Observation]:
        try:
            counts = _count_excluded(store, excluders)
        except sqlite3.Error:
            return []
        return [
            Observation(max(0, count - before[name]), {semconv.PROCESSOR_NAME: name})
            for name, count in counts.items()
        ]

    def observe_failed(_: CallbackOptions) -> Iterable[Observation]:
        # A copy: the encoding thread may add an error type meanwhile.
        for (name, error_type), count in list(stats.processor_errors.items()):
            attributes = {semconv.PROCESSOR_NAME: name, "error.type": error_type}
            yield Observation(count, attributes)

    meter.create_observable_counter(
        semconv.METRIC_EVENT_EXCLUDED,
        [observe_excluded],
        _UNIT,
        "Events that a filter or a processor excluded from being sent.",
    )
    meter.create_observable_counter(
        semconv.METRIC_PROCESSOR_FAILED,
        [observe_failed],
        _UNIT,
        "Log records and spans that went on as they were, because a processor failed.",
    )


def _count_excluded(store: Store, excluders: Sequence[str]) -> Mapping[str, int]:
    counts = store.counters(NO_BOOT)
    return {name: counts.get(EXCLUDED + name, 0) for name in excluders}
