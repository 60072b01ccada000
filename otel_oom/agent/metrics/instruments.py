"""The agent's statistics as OpenTelemetry metrics, by the official SDK.

Those with names of the conventions are in modules of their own. All else is under ``otel_oom.``,
defined in ``otlp/registry/metrics.yaml``. Nothing is computed before a collection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
from opentelemetry.util.types import AttributeValue

from otel_oom import __version__
from otel_oom.agent.health import Health
from otel_oom.agent.metrics.attributes import ITEMS, agent_resource
from otel_oom.agent.metrics.exporter import TransportExporter
from otel_oom.agent.metrics.process_instruments import add_process_instruments
from otel_oom.agent.metrics.processing import add_processing
from otel_oom.agent.metrics.reader import SpreadMetricReader
from otel_oom.agent.metrics.sdk_instruments import SdkInstruments, observe_store
from otel_oom.agent.metrics.usage_instruments import add_usage_instruments
from otel_oom.agent.stats import Stats
from otel_oom.config.exporters import Destination
from otel_oom.config.metrics import MetricsConfig, ScrapeAddress
from otel_oom.export.exporter import create_transport
from otel_oom.otlp import semconv
from otel_oom.store import Store

if TYPE_CHECKING:  # most agents are not scraped
    from otel_oom.agent.metrics.scrape_server import ScrapeServer

_LOG = logging.getLogger(__name__)

_SIGNALS: Final = {signal: {semconv.SIGNAL: signal} for signal in ITEMS}
_DURATION_BOUNDS_S: Final = (
    *(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0),
)
"""From a Collector on the same host to an outage of a day."""

_Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Metrics:
    """The instruments, and a reader with a thread of its own, which starts at once."""

    def __init__(  # noqa: PLR0913  the last is named at the call
        self,
        config: MetricsConfig,
        resource: Mapping[str, AttributeValue],
        exporters: Iterable[Destination],
        stats: Stats,
        store: Store,
        *,
        health: Health | None = None,
    ) -> None:
        """Export the numbers of ``stats`` and ``store`` as ``config`` says.

        ``resource`` has the host's attributes, and the user's for this agent. ``exporters`` are
        those of the kills. ``health`` is the agent's, for probes where Prometheus scrapes it.
        """
        self._stats = stats
        self._store = store
        # First: its package needs the HTTP client with TLS, and exporters may load it without.
        self._scrape_server = None
        if config.scrape_address:
            self._scrape_server = _open_scrape_server(config.scrape_address, store, health)
        readers: list[MetricReader] = [
            SpreadMetricReader(
                exporter,
                export_interval_millis=config.interval_s * 1000,
                export_timeout_millis=config.timeout_s * 1000,
            )
            for exporter in _create_exporters(config, store)
        ]
        if self._scrape_server:
            readers.append(self._scrape_server.reader)
        self._provider = MeterProvider(
            readers, agent_resource(config.service_name, resource), shutdown_on_exit=False
        )
        self._meter = self._provider.get_meter(semconv.SCOPE, __version__, semconv.SCHEMA_URL)
        by_channel = {exporter.channel: exporter for exporter in exporters}
        self._sdk = SdkInstruments(self._meter, by_channel, stats, store)
        add_process_instruments(self._meter)
        add_usage_instruments(self._meter, stats)
        self._add_capture()
        self._add_buffer()
        self._add_outbox()
        self._add_durations()
        if self._scrape_server:
            self._scrape_server.start()

    def add_processing(self, excluders: Sequence[str]) -> None:
        """Export what filters and processors of these names exclude."""
        add_processing(self._meter, self._stats, self._store, excluders)

    def stop(self, timeout_s: float) -> None:
        """Export the last values, within ``timeout_s`` seconds, and end."""
        if self._scrape_server:
            self._scrape_server.stop()
        self._provider.shutdown(timeout_s * 1000)

    def _add_capture(self) -> None:
        for name, counts, description in (
            (
                semconv.METRIC_EVENT_CAPTURED,
                self._stats.captured,
                "Events received from the kernel.",
            ),
            (
                semconv.METRIC_EVENT_STORED,
                self._stats.stored,
                "Events stored on disk, and synced within 50 ms.",
            ),
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

    def _add_outbox(self) -> None:
        stats = self._store.stats
        self._meter.create_observable_gauge(
            semconv.METRIC_QUEUE_AGE,
            _observe_signals(
                lambda signal: max(map(stats.oldest_age_s, self._sdk.channels[signal]))
            ),
            "s",
            "Age of the oldest message in the outbox; 0 if it is empty.",
        )
        self._meter.create_observable_up_down_counter(
            semconv.METRIC_QUEUE_PARKED,
            _observe_signals(
                lambda signal: sum(
                    self._stats.parked.get(channel, 0) for channel in self._sdk.channels[signal]
                )
            ),
            "{message}",
            "Messages that a backend keeps rejecting alone, while it accepts others.",
        )
        self._meter.create_observable_up_down_counter(
            semconv.METRIC_DEAD_LETTERS,
            _observe_signals(
                lambda signal: sum(map(stats.dead_letter_count, self._sdk.channels[signal]))
            ),
            "{message}",
            "Messages that a backend rejected, kept on disk.",
        )
        self._meter.create_observable_counter(
            semconv.METRIC_QUEUE_DROPPED,
            _observe_signals(self._sdk.count_new_drops),
            "{message}",
            "Undelivered messages dropped at the size limit of the store.",
        )

        self._meter.create_observable_counter(
            semconv.METRIC_REPORT_DROPPED,
            [observe_store(partial(self._sdk.count_new_drops, "reports"), {})],
            "{report}",
            "Kernel reports of undelivered events dropped at the size limit of the store.",
        )

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


def _create_exporters(config: MetricsConfig, store: Store) -> Iterator[MetricExporter]:
    if config.endpoint:
        transport = create_transport(config.endpoint)
        yield TransportExporter(config, config.endpoint, transport, store)
    for name in config.exporters:
        from otel_oom.agent.metrics.installed import InstalledMetricExporter  # noqa: PLC0415  OTLP needs none

        try:
            yield InstalledMetricExporter(name, store)
        except Exception:  # noqa: BLE001  of any package; the other exporters go on
            _LOG.exception("Metrics: exporter %s can't be used", name)


def _open_scrape_server(
    address: ScrapeAddress, store: Store, health: Health | None
) -> ScrapeServer | None:
    try:
        from otel_oom.agent.metrics.scrape_server import ScrapeServer  # noqa: PLC0415  8 MB

        return ScrapeServer(address, store, health)
    except OSError as error:
        _LOG.error("Metrics: Prometheus can't scrape %s:%d: %s", address.host, address.port, error)
    except Exception:  # noqa: BLE001  of its package; the other exporters go on
        _LOG.exception("Metrics: exporter prometheus can't be used")
    return None


def _observe_kinds(counts: Mapping[str, int], _: CallbackOptions) -> list[Observation]:
    return [Observation(count, {semconv.EVENT_KIND: kind}) for kind, count in counts.items()]


def _observe_signals(read: Callable[[str], float]) -> list[_Callback]:
    return [
        observe_store(partial(read, signal), attributes) for signal, attributes in _SIGNALS.items()
    ]
