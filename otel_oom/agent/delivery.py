"""Deliver stored events to the backends, in threads that may be slow.

One thread encodes, and one for each signal exports. They start after capture, and so do their
imports. Each resumes from the disk: a crash loses no work.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from otel_oom.agent.encoding_mark import EncodingMark
from otel_oom.agent.stats import Stats
from otel_oom.agent.worker import ExporterStatus, Liveness, Worker
from otel_oom.config.agent import AgentConfig
from otel_oom.linux import clock
from otel_oom.linux.containers.service import ContainerService
from otel_oom.store import Store

if TYPE_CHECKING:  # imported late, see _run()
    from collections.abc import Collection, Mapping

    from opentelemetry.util.types import AttributeValue

    from otel_oom.agent.metrics.instruments import Metrics
    from otel_oom.export.exporter import SignalExporter
    from otel_oom.export.retry import RetryGate

_LOG = logging.getLogger(__name__)

_METRICS_STOP_S: Final = 1.0
"""Time for the last metrics at the end, in addition to that for kills."""
_POLL_S: Final = 0.02


class DeliveryPipeline:
    """The threads that deliver, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        store: Store,
        config: AgentConfig,
        stats: Stats,
        containers: ContainerService,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Deliver from ``store`` to the endpoints of ``config``, and count in ``stats``.

        ``on_ready`` is called in the encoding thread once everything is loaded.
        """
        self._store = store
        self._config = config
        self._stats = stats
        self._containers = containers
        self._on_ready = on_ready
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
        # These imports take 15 MB and 0.2 s: after capture has begun.
        from otel_oom.agent.encode_loop import EncodeLoop  # noqa: PLC0415
        from otel_oom.agent.encoder import EventEncoder  # noqa: PLC0415
        from otel_oom.enrich.claims import ClaimBudget  # noqa: PLC0415
        from otel_oom.enrich.host import (  # noqa: PLC0415
            Host,
            environment_attributes,
            host_attributes,
            host_resource,
        )
        from otel_oom.enrich.user_stack import UserSymbolizer  # noqa: PLC0415

        config = self._config.otlp
        attributes, configured = host_attributes(), {**self._detect_resource(), **config.resource}
        resource = host_resource(attributes, configured)
        claims = ClaimBudget() if self._config.claimed_identity else None
        host = Host(resource, UserSymbolizer(), environment_attributes(config.resource), claims)
        encoder = EventEncoder(host, self._containers, self._boot_id)
        loop = EncodeLoop(self._store, encoder, self._liveness, self._mark, self._boot_id)
        self._start_metrics({**attributes, **configured})
        self._start_exporters()
        self._on_ready()
        while not self._stop.is_set():
            self._liveness.begin()
            self._wake.clear()
            if self._stop.is_set():
                return
            loop.encode_pending(self._stop, self._notify)
            if not self._wake.is_set():
                self._encoded.set()
            wait_s = min(self._store.maintain(), loop.until_due_s())
            self._liveness.end()
            self._wake.wait(wait_s)

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

            endpoints = config.otlp.endpoints
            self._metrics = Metrics(config.metrics, resource, endpoints, self._stats, self._store)
        except Exception:  # noqa: BLE001  kills come first
            _LOG.exception("Agent metrics are off: they could not be started")

    def _start_exporters(self) -> None:
        from otel_oom.export.exporter import SignalExporter, create_transport  # noqa: PLC0415  as in _run()
        from otel_oom.export.retry import RetryGate  # noqa: PLC0415

        for endpoint in self._config.otlp.endpoints[len(self._exporters) :]:
            gate = self._gates.setdefault(endpoint.host, RetryGate())
            status = ExporterStatus(self._stats, endpoint.timeout_s)
            transport = create_transport(endpoint)
            exporter = SignalExporter(self._store, endpoint, transport, gate, status)
            worker = Worker(endpoint.signal, exporter.run, self._stop, status.liveness)
            self._exporters.append(exporter)
            self._workers.append(worker)
            worker.start()

    def _notify(self, signals: Collection[str]) -> None:
        for exporter in self._exporters:
            if exporter.signal in signals:
                exporter.notify()
