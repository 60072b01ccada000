"""The agent's statistics as OpenTelemetry metrics, by the official SDK.

Where the conventions for an SDK's own metrics have a name (``otel.sdk.exporter.*``,
``otel.sdk.processor.*``), it is used: dashboards for them work here. All else is under
``otel_oom.``, defined in ``otlp/registry.yaml``. Nothing is computed before a collection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.util.types import Attributes, AttributeValue

from otel_oom import __version__
from otel_oom.agent.metrics.attributes import (
    ITEMS,
    agent_resource,
    exporter_attributes,
    queue_attributes,
)
from otel_oom.agent.metrics.exporter import TransportExporter
from otel_oom.agent.stats import Stats
from otel_oom.config.metrics import MetricsConfig
from otel_oom.config.otlp import Endpoint
from otel_oom.export.exporter import create_transport
from otel_oom.otlp import semconv
from otel_oom.store import Store
from otel_oom.store.counters import DROPPED, NO_BOOT

_UNITS: Final = {"logs": "{log_record}", "traces": "{span}"}
_SIGNALS: Final = {signal: {semconv.SIGNAL: signal} for signal in ITEMS}
_DURATION_BOUNDS_S: Final = (
    *(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0),
)
"""From a Collector on the same host to an outage of a day."""

_Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Metrics:
    """The instruments, and a reader with a thread of its own, which starts at once."""

    def __init__(
        self,
        config: MetricsConfig,
        resource: Mapping[str, AttributeValue],
        endpoints: Iterable[Endpoint],
        stats: Stats,
        store: Store,
    ) -> None:
        """Export the numbers of ``stats`` and ``store`` as ``config`` says.

        ``resource`` has the host's attributes, and the user's for this agent. ``endpoints`` are
        those of the kills.
        """
        self._stats = stats
        self._store = store
        self._endpoints = {endpoint.signal: endpoint for endpoint in endpoints}
        reader = PeriodicExportingMetricReader(
            TransportExporter(config, create_transport(config.endpoint), store),
            export_interval_millis=config.interval_s * 1000,
            export_timeout_millis=config.timeout_s * 1000,
        )
        self._provider = MeterProvider(
            [reader], agent_resource(config.service_name, resource), shutdown_on_exit=False
        )
        self._meter = self._provider.get_meter(semconv.SCOPE, __version__, semconv.SCHEMA_URL)
        self._add_capture()
        self._add_buffer()
        self._add_exports()
        self._add_outbox()
        self._add_durations()

    def stop(self, timeout_s: float) -> None:
        """Export the last values, within ``timeout_s`` seconds, and end."""
        self._provider.shutdown(timeout_s * 1000)

    def _add_capture(self) -> None:
        for name, counts, description in (
            (
                semconv.METRIC_EVENT_CAPTURED,
                self._stats.captured,
                "Events received from the kernel.",
            ),
            (semconv.METRIC_EVENT_STORED, self._stats.stored, "Events stored on disk and synced."),
        ):
            self._meter.create_observable_counter(
                name, [partial(_observe_kinds, counts)], "{event}", description
            )
        self._meter.create_observable_counter(
            semconv.METRIC_EVENT_LOST,
            [self._observe_lost],
            "{event}",
            "Events lost before they reached the agent.",
        )

    def _observe_lost(self, _: CallbackOptions) -> list[Observation]:
        lost = self._stats.lost
        return [
            Observation(lost.victims, {"error.type": "buffer_full", semconv.EVENT_KIND: "kill"}),
            Observation(lost.exits, {"error.type": "buffer_full", semconv.EVENT_KIND: "exit"}),
            Observation(lost.undecodable, {"error.type": "decode_error"}),
            Observation(self._stats.dropped_records, {"error.type": "quarantine_full"}),
            Observation(lost.log_lines, {"error.type": "overwritten"}),
        ]

    def _add_buffer(self) -> None:
        if self._stats.buffer is None:
            return
        size = self._stats.buffer.buffer_bytes
        self._meter.create_observable_gauge(
            semconv.METRIC_RING_BUFFER_USAGE,
            [lambda _: [Observation(self._stats.take_buffer_peak())]],
            "By",
            "Peak usage of the kernel's ring buffer since the last collection.",
        )
        self._meter.create_observable_up_down_counter(
            semconv.METRIC_RING_BUFFER_LIMIT,
            [lambda _: [Observation(size)]],
            "By",
            "Size of the kernel's ring buffer.",
        )

    def _add_exports(self) -> None:
        for signal, item in ITEMS.items():
            self._meter.create_observable_counter(
                f"otel.sdk.exporter.{item}.exported",
                [partial(self._observe_exported, signal)],
                _UNITS[signal],
                "Messages that a backend accepted or rejected.",
            )

    def _observe_exported(self, signal: str, _: CallbackOptions) -> Iterable[Observation]:
        attributes = exporter_attributes(self._endpoints[signal])
        # A copy: an exporter may add an error type meanwhile.
        exported = {(signal, ""): 0} | dict(list(self._stats.exported.items()))
        for (exported_signal, error_type), count in exported.items():
            if exported_signal == signal:
                error = {"error.type": error_type} if error_type else {}
                yield Observation(count, {**attributes, **error})

    def _add_outbox(self) -> None:
        stats = self._store.stats
        for signal, item in ITEMS.items():
            self._meter.create_observable_up_down_counter(
                f"otel.sdk.processor.{item}.queue.size",
                [_observe_store(partial(stats.queue_depth, signal), queue_attributes(signal))],
                _UNITS[signal],
                "Messages in the outbox.",
            )
        self._meter.create_observable_gauge(
            semconv.METRIC_QUEUE_AGE,
            _observe_signals(stats.oldest_age_s),
            "s",
            "Age of the oldest message in the outbox; 0 if it is empty.",
        )
        self._meter.create_observable_up_down_counter(
            semconv.METRIC_QUEUE_PARKED,
            _observe_signals(lambda signal: self._stats.parked.get(signal, 0)),
            "{message}",
            "Messages that a backend keeps rejecting alone, while it accepts others.",
        )
        self._meter.create_observable_up_down_counter(
            semconv.METRIC_DEAD_LETTER_COUNT,
            _observe_signals(stats.dead_letter_count),
            "{message}",
            "Messages that a backend rejected, kept on disk.",
        )
        dropped_before = {signal: self._count_dropped(signal) for signal in ITEMS}
        self._meter.create_observable_counter(
            semconv.METRIC_QUEUE_DROPPED,
            _observe_signals(
                lambda signal: max(0, self._count_dropped(signal) - dropped_before[signal])
            ),
            "{message}",
            "Undelivered messages dropped at the size limit of the store.",
        )

        reports_before = self._count_dropped("reports")
        self._meter.create_observable_counter(
            semconv.METRIC_REPORT_DROPPED,
            [_observe_store(lambda: self._count_dropped("reports") - reports_before, {})],
            "{report}",
            "Kernel reports of undelivered events dropped at the size limit of the store.",
        )

    def _count_dropped(self, signal: str) -> int:
        return self._store.counters(NO_BOOT).get(f"{DROPPED}{signal}", 0)

    def _add_durations(self) -> None:
        histogram = self._meter.create_histogram(
            semconv.METRIC_DELIVERY_DURATION,
            "s",
            "Time from the kernel's timestamp of an event to its acceptance by the backend.",
            explicit_bucket_boundaries_advisory=_DURATION_BOUNDS_S,
        )

        def record(signal: str, delays_s: Iterable[float]) -> None:
            for delay_s in delays_s:
                histogram.record(delay_s, _SIGNALS[signal])

        self._stats.record_delays = record


def _observe_kinds(counts: Mapping[str, int], _: CallbackOptions) -> list[Observation]:
    return [Observation(count, {semconv.EVENT_KIND: kind}) for kind, count in counts.items()]


def _observe_signals(read: Callable[[str], float]) -> list[_Callback]:
    return [
        _observe_store(partial(read, signal), attributes) for signal, attributes in _SIGNALS.items()
    ]


def _observe_store(read: Callable[[], float], attributes: Attributes) -> _Callback:
    """Observe a number of the store; none while it is unreadable, which others log."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        try:
            return [Observation(read(), attributes)]
        except sqlite3.Error:
            return []

    return observe
