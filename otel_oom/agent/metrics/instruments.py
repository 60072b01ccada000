"""The agent's numbers as OpenTelemetry metrics, by the official SDK.

Where the conventions for an SDK's own metrics name the same thing (``otel.sdk.exporter.*``,
``otel.sdk.processor.*``), theirs is the name: dashboards for them work here. All else is under
``otel_oom.``, defined in ``otlp/registry.yaml``. Nothing is computed before somebody collects.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.util.types import AttributeValue

from otel_oom import __version__
from otel_oom.agent.metrics.exporter import Exporter
from otel_oom.capture.source import Source, SupportsBufferStats
from otel_oom.config.endpoint import GRPC, Endpoint
from otel_oom.export.exporter import SignalExporter, connect
from otel_oom.otlp import semconv
from otel_oom.store.counters import DROPPED, NO_BOOT

if TYPE_CHECKING:
    from opentelemetry.util.types import Attributes

    from otel_oom.agent.stats import Stats
    from otel_oom.config.metrics import MetricsConfig
    from otel_oom.store import Store

_LOG = logging.getLogger(__name__)

SERVICE_NAME: Final = "otel-oom"
ITEMS: Final = {"logs": "log", "traces": "span"}
"""Signals, and what the conventions call one of each in the names of their metrics."""

_UNITS: Final = {"logs": "{log_record}", "traces": "{span}"}
_PORTS: Final = {"http": 80, "https": 443}
_LAG_BOUNDS_S: Final = (
    *(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0),
)
"""From what a Collector on the same host takes to an outage of a day."""

_QUEUE: Final = f"{SignalExporter.__module__}.{SignalExporter.__qualname__}"
"""The type of what has the queue; the conventions ask for the language's own name of it."""

_Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Metrics:
    """The instruments, and the reader that has a thread of its own; begins with construction."""

    def __init__(
        self,
        settings: MetricsConfig,
        resource: Mapping[str, AttributeValue],
        endpoints: Iterable[Endpoint],
        counts: Stats,
        store: Store,
    ) -> None:
        """Send what ``counts`` and ``store`` have, as ``settings`` say.

        ``resource`` is the host and what the user says of this agent; ``endpoints`` are those of
        the kills.
        """
        self._counts = counts
        self._store = store
        self._endpoints = {endpoint.signal: endpoint for endpoint in endpoints}
        reader = PeriodicExportingMetricReader(
            Exporter(settings, connect(settings.endpoint), store),
            export_interval_millis=settings.interval_s * 1000,
            export_timeout_millis=settings.timeout_s * 1000,
        )
        self._provider = MeterProvider(
            [reader], _resource(settings.service_name, resource), shutdown_on_exit=False
        )
        self._meter = self._provider.get_meter(semconv.SCOPE, __version__, semconv.SCHEMA_URL)
        self._of_capture()
        self._of_delivery()

    def stop(self, within_s: float) -> None:
        """Tell the last state, in at most ``within_s`` seconds, and end."""
        self._provider.shutdown(within_s * 1000)

    def watch(self, source: Source) -> None:
        """Tell how full the kernel's buffer gets, where ``source`` has one of its own."""
        if not isinstance(source, SupportsBufferStats):
            return
        size = source.buffer_bytes
        self._meter.create_observable_gauge(
            semconv.METRIC_BUFFER_USAGE,
            [lambda _: [Observation(max(self._counts.take_fullest(), source.buffered_bytes()))]],
            "By",
            "Peak usage of the kernel's ring buffer since the last collection.",
        )
        self._meter.create_observable_up_down_counter(
            semconv.METRIC_BUFFER_LIMIT,
            [lambda _: [Observation(size)]],
            "By",
            "Size of the kernel's ring buffer.",
        )

    def _of_capture(self) -> None:
        counts = self._counts
        for name, numbers, description in (
            (semconv.METRIC_CAPTURED, counts.captured, "Events received from the kernel."),
            (semconv.METRIC_STORED, counts.stored, "Events stored on disk and synced."),
        ):
            self._meter.create_observable_counter(
                name, [_by(semconv.EVENT_KIND, numbers)], "{event}", description
            )
        self._meter.create_observable_counter(
            semconv.METRIC_LOST,
            [lambda _: self._lost()],
            "{event}",
            "Events lost before they reached the agent.",
        )

    def _lost(self) -> list[Observation]:
        loss = self._counts.loss
        return [
            Observation(loss.victims, {"error.type": "buffer_full", semconv.EVENT_KIND: "kill"}),
            Observation(loss.exits, {"error.type": "buffer_full", semconv.EVENT_KIND: "exit"}),
            Observation(loss.undecodable, {"error.type": "decode_error"}),
            Observation(loss.log_lines, {"error.type": "overwritten"}),
        ]

    def _of_delivery(self) -> None:
        for signal, item in ITEMS.items():
            self._meter.create_observable_counter(
                f"otel.sdk.exporter.{item}.exported",
                [self._exported(signal)],
                _UNITS[signal],
                "Messages that a backend accepted or rejected.",
            )
            queue = {"otel.component.type": _QUEUE, "otel.component.name": f"{_QUEUE}/{signal}"}
            self._meter.create_observable_up_down_counter(
                f"otel.sdk.processor.{item}.queue.size",
                [self._of_store(partial(self._store.stats.queue_depth, signal), queue)],
                _UNITS[signal],
                "Messages in the outbox.",
            )
        by_signal = {signal: {semconv.SIGNAL: signal} for signal in ITEMS}
        self._meter.create_observable_gauge(
            semconv.METRIC_QUEUE_AGE,
            [
                self._of_store(partial(self._store.stats.oldest_age_s, signal), attributes)
                for signal, attributes in by_signal.items()
            ],
            "s",
            "Age of the oldest message in the outbox; 0 if it is empty.",
        )
        self._meter.create_observable_up_down_counter(
            semconv.METRIC_DEAD_LETTERS,
            [
                self._of_store(partial(self._store.stats.dead_letter_count, signal), attributes)
                for signal, attributes in by_signal.items()
            ],
            "{message}",
            "Messages that a backend rejected, kept on disk.",
        )
        before = self._dropped()
        self._meter.create_observable_counter(
            semconv.METRIC_DROPPED,
            [
                self._of_store(partial(self._dropped_since, before, signal), attributes)
                for signal, attributes in by_signal.items()
            ],
            "{message}",
            "Undelivered messages dropped at the size limit of the store.",
        )
        lag = self._meter.create_histogram(
            semconv.METRIC_DELIVERY_DURATION,
            "s",
            "Time from the kernel's timestamp of an event to its acceptance by the backend.",
            explicit_bucket_boundaries_advisory=_LAG_BOUNDS_S,
        )

        def record(signal: str, seconds: Iterable[float]) -> None:
            for lag_s in seconds:
                lag.record(lag_s, by_signal[signal])

        self._counts.record_lag = record

    def _dropped(self) -> dict[str, int]:
        """How many messages of each signal the store has dropped in all its life."""
        counters = self._store.counters(NO_BOOT)
        return {signal: counters.get(f"{DROPPED}{signal}", 0) for signal in ITEMS}

    def _dropped_since(self, before: Mapping[str, int], signal: str) -> int:
        return max(0, self._dropped()[signal] - before[signal])

    def _exported(self, signal: str) -> _Callback:
        exporter = _exporter(self._endpoints[signal])

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            # A copy at once: a courier may add a cause meanwhile.
            decided = {("", signal): 0} | {
                (wrong, of): number for (of, wrong), number in list(self._counts.exported.items())
            }
            for (wrong, of), number in decided.items():
                if of == signal:
                    yield Observation(number, {**exporter, **_error(wrong)})

        return observe

    def _of_store(self, read: Callable[[], float], attributes: Attributes) -> _Callback:
        """One number of the store; nothing while it can't be read, which is said elsewhere."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            try:
                return [Observation(read(), attributes)]
            except sqlite3.Error:
                return []

        return observe


def _by(name: str, numbers: Mapping[str, int]) -> _Callback:
    return lambda _: [Observation(number, {name: key}) for key, number in numbers.items()]


def _error(wrong: str) -> dict[str, str]:
    return {"error.type": wrong} if wrong else {}


def _exporter(endpoint: Endpoint) -> dict[str, str | int]:
    """What the conventions say of an exporter's metrics: which one, and where it sends to."""
    item, protocol = ITEMS[endpoint.signal], "grpc" if endpoint.protocol == GRPC else "http"
    kind = f"otlp_{protocol}_{item}_exporter"
    url = urlsplit(endpoint.url)
    return {
        "otel.component.type": kind,
        "otel.component.name": f"{kind}/0",
        "server.address": url.hostname or "",
        "server.port": url.port or _PORTS[url.scheme],
    }


def _resource(service_name: str, attributes: Mapping[str, AttributeValue]) -> Resource:
    """The agent itself: here it is what is observed.

    One agent works on a host, so the host's id is the instance's as well: it stays the same over
    restarts, as the count of kills does.
    """
    instance = attributes.get("host.id") or attributes.get("host.name", "")
    resource = {
        "service.name": SERVICE_NAME,
        "service.version": __version__,
        "service.instance.id": instance,
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": sdk_version,
        **attributes,
        **({"service.name": service_name} if service_name else {}),
    }
    # Never Resource.create(): it imports every detector that is installed.
    return Resource(resource, semconv.SCHEMA_URL)


__all__ = ["Metrics"]
