"""Deliver stored events to the backends, in threads that may be slow.

One thread encodes, and one for each exporter of a signal exports. They start after capture, and so
do their imports. Each resumes from the disk: a crash loses no work.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Final

from otel_oom.agent.encoding_mark import EncodingMark
from otel_oom.agent.health import Health
from otel_oom.agent.stats import Stats
from otel_oom.agent.worker import ExporterStatus, Liveness, Worker
from otel_oom.config.agent import AgentConfig
from otel_oom.config.filters import NO_FILTERS
from otel_oom.linux import clock
from otel_oom.linux.containers.service import ContainerService
from otel_oom.store import Store

if TYPE_CHECKING:  # imported late, see _run()
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

    from otel_oom.agent.event_processing import EventProcessing
    from otel_oom.agent.metrics.instruments import Metrics
    from otel_oom.export.exporter import SignalExporter
    from otel_oom.export.retry import RetryGate

_LOG = logging.getLogger(__name__)

_METRICS_STOP_S: Final = 1.0
"""Time for the last metrics at the end, in addition to that for kills."""
_POLL_S: Final = 0.02
_IDLE_S: Final = 5.0
"""How long there is nothing to do before ``on_idle`` is called."""
_NEXT_IDLE_S: Final = 60.0
"""Least time between two calls of ``on_idle``."""
_SPARE_S: Final = 30.0
"""How long a process for symbols stays ready: longer than the kills of one burst are apart."""


class DeliveryPipeline:
    """The threads that deliver, from :meth:`start` to :meth:`stop`."""

    def __init__(  # noqa: PLR0913  the last are named at the call
        self,
        store: Store,
        config: AgentConfig,
        stats: Stats,
        containers: ContainerService,
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_idle: Callable[[], None] = lambda: None,
        health: Health | None = None,
    ) -> None:
        """Deliver from ``store`` to the endpoints of ``config``, and count in ``stats``.

        ``on_ready`` is called in the encoding thread once everything is loaded, ``on_idle`` when
        there is nothing to do after events, once a minute at most. ``health`` is the agent's, for
        probes by HTTP.
        """
        self._store = store
        self._config = config
        self._stats = stats
        self._containers = containers
        self._health = health
        self._on_ready = on_ready
        self._on_idle = on_idle
        self._boot_id = clock.boot_id()
        self._metrics: Metrics | None = None
        self._mark = EncodingMark(store.path)
        self._detected: Mapping[str, AttributeValue] | None = None
        self._exporters: list[SignalExporter] = []
        self._gates: dict[str, RetryGate] = {}
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._encoded = threading.Event()
        self._liveness = Liveness()
        self._workers = [Worker("encode", self._run, self._stop, self._liveness)]

    def start(self) -> None:
        """Start the threads; returns at once."""
        self._workers[0].start()

    def notify_events(self) -> None:
        """Announce new events in the store."""
        self._encoded.clear()
        self._wake.set()

    def notify_outbox(self) -> None:
        """Announce new messages in the outbox."""
        for exporter in self._exporters:
            exporter.notify()

    @property
    def health_error(self) -> str | None:
        """Return which thread has ended or stalled; ``None`` if all are healthy."""
        errors = (worker.health_error for worker in self._workers)
        return next((error for error in errors if error), None)

    def stop(self, grace_s: float) -> None:
        """Send queued messages for at most ``grace_s`` seconds, then end all threads.

        A failing backend is not waited for; unsent messages stay on disk.
        """
        deadline = time.monotonic() + grace_s
        self.notify_events()
        while time.monotonic() < deadline and not self._is_idle():
            time.sleep(_POLL_S)
        self._stop.set()
        self._wake.set()
        for exporter in self._exporters:
            exporter.stop()
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()) + _POLL_S)
        if self._liveness.stalled_s is None:
            # An event in work takes long, but the process does not die of it.
            self._mark.clear()
        self._mark.close()
        if self._metrics:
            self._metrics.stop(_METRICS_STOP_S)

    def _is_idle(self) -> bool:
        return self._encoded.is_set() and all(exporter.is_idle for exporter in self._exporters)

    def _run(self) -> None:
        # These imports take 12 MB and 0.2 s: after capture has begun.
        from otel_oom.otlp.protobuf import import_protobuf  # noqa: PLC0415

        import_protobuf()
        from otel_oom.agent.encode_loop import EncodeLoop  # noqa: PLC0415
        from otel_oom.agent.encoder import EventEncoder  # noqa: PLC0415
        from otel_oom.agent.enricher import EventEnricher  # noqa: PLC0415
        from otel_oom.agent.repeat_counter import RepeatCounter  # noqa: PLC0415
        from otel_oom.enrich.host import create_host, host_attributes  # noqa: PLC0415
        from otel_oom.enrich.user_stack import UserSymbolizer  # noqa: PLC0415

        config = self._config.otlp
        attributes, detected = host_attributes(), self._detect_resource()
        with closing(UserSymbolizer(spare_s=_SPARE_S)) as symbolizer:
            host = create_host(
                attributes,
                detected,
                config.resource,
                symbolizer,
                claimed_identity=self._config.claimed_identity,
            )
            repeats = RepeatCounter(self._store)
            enricher = EventEnricher(host, self._containers, self._boot_id, repeats)
            encoder = EventEncoder(
                enricher,
                config.signals,
                config.limits,
                self._create_processing(),
                self._config.owner_names,
            )
            loop = EncodeLoop(self._store, encoder, self._liveness, self._mark, self._boot_id)
            self._store.set_channels(config.channels)
            self._start_metrics({**attributes, **detected, **config.resource})
            self._start_exporters()
            self._on_ready()
            idle_at, next_idle_at = math.inf, 0.0
            while not self._stop.is_set():
                self._liveness.begin()
                self._wake.clear()
                if self._stop.is_set():
                    return
                loop.encode_pending(self._stop, self._wake, self._notify)
                if not self._wake.is_set():
                    self._encoded.set()
                self._store.delayed_sync.sync_if_due()
                wait_s = min(
                    self._store.maintain(),
                    self._store.delayed_sync.wait_s,
                    loop.until_due_s(),
                    symbolizer.end_spare(),
                )
                self._liveness.end()
                if self._wake.wait(max(0.0, min(wait_s, idle_at - time.monotonic()))):
                    idle_at = max(time.monotonic() + _IDLE_S, next_idle_at)
                elif time.monotonic() >= idle_at:
                    idle_at, next_idle_at = math.inf, time.monotonic() + _NEXT_IDLE_S
                    self._on_idle()

    def _create_processing(self) -> EventProcessing | None:
        """Create the user's filters and processors, which most agents have not."""
        filters = self._config.filters
        if filters == NO_FILTERS:
            return None
        from otel_oom.agent.event_processing import EventProcessing  # noqa: PLC0415  as in _run()

        return EventProcessing(filters, self._stats.processor_errors)

    def _detect_resource(self) -> Mapping[str, AttributeValue]:
        """Run the user's resource detectors; once, although the thread may restart."""
        if self._detected is None:
            self._detected = {}
            if self._config.otlp.detectors:
                from otel_oom.enrich.resource_detectors import detect_resource  # noqa: PLC0415  as in _run()

                self._detected = detect_resource(self._config.otlp.detectors)
        return self._detected

    def _start_metrics(self, resource: Mapping[str, AttributeValue]) -> None:
        """Start the agent's own metrics, if configured; a failure must not affect kills."""
        config = self._config
        if config.metrics is None or self._metrics:
            return
        try:
            from otel_oom.agent.metrics.instruments import Metrics  # noqa: PLC0415  as in _run()

            exporters = config.otlp.destinations
            self._metrics = Metrics(
                config.metrics,
                resource,
                exporters,
                self._stats,
                self._store,
                health=self._health,
            )
            if config.filters.excluders:
                self._metrics.add_processing(config.filters.excluders)
        except Exception:  # noqa: BLE001  kills come first
            _LOG.exception("Agent metrics are off: they could not be started")

    def _start_exporters(self) -> None:
        from otel_oom.export.exporter import SignalExporter, create_transport  # noqa: PLC0415  as in _run()
        from otel_oom.export.retry import RetryGate  # noqa: PLC0415

        for endpoint in self._config.otlp.destinations[len(self._exporters) :]:
            gate = self._gates.setdefault(endpoint.host, RetryGate())
            status = ExporterStatus(self._stats, endpoint.timeout_s)
            transport = create_transport(endpoint)
            exporter = SignalExporter(self._store, endpoint, transport, gate, status)
            worker = Worker(endpoint.channel, exporter.run, self._stop, status.liveness)
            self._exporters.append(exporter)
            self._workers.append(worker)
            worker.start()

    def _notify(self, counts: Mapping[str, int]) -> None:
        """Count new messages by signal, and wake their exporters."""
        self._stats.created_logs += counts.get("logs", 0)
        for exporter in self._exporters:
            if exporter.signal in counts:
                exporter.notify()
