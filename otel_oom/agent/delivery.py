"""From the journal to the backends: what may take its time.

One thread translates, one a signal sends. They are started after capture, and so is the import
of all that they need. Each resumes from the disk: a crash leaves work to do, never work lost.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final

from otel_oom.agent import memory
from otel_oom.agent.liveness import STUCK_S, Liveness
from otel_oom.agent.stats import Stats
from otel_oom.capture.source import Source
from otel_oom.config.agent import AgentConfig
from otel_oom.linux import clock
from otel_oom.model.units import NS_PER_S
from otel_oom.store import OutboxEntry, PendingEvent, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.util.types import AttributeValue

    from otel_oom.agent.encoder import EventEncoder
    from otel_oom.agent.metrics.instruments import Metrics
    from otel_oom.export.exporter import SignalExporter
    from otel_oom.export.retry import RetryGate
    from otel_oom.linux.containers.service import ContainerService

_LOG = logging.getLogger(__name__)

_ROWS: Final = 128
_EXIT_WAIT_S: Final = 10.0
"""How long a span waits for its victim to exit."""
_METRICS_S: Final = 1.0
"""How long the end may take to send metrics, beyond what it takes to send kills."""
_POLL_S: Final = 0.02
_RESTART_S: Final = 5.0


class DeliveryPipeline:
    """The threads behind the store, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        store: Store,
        config: AgentConfig,
        runtimes: ContainerService,
        source: Source | None = None,
        *,
        resident: bool = True,
    ) -> None:
        """Deliver what ``store`` has to the endpoints of ``config``.

        The metrics that they may ask for tell what ``source`` says of itself as well. ``resident``
        is whether to hold what it has in memory: it must work when that is short.
        """
        self._resident = resident
        self._store = store
        self._boot_id = clock.boot_id()
        self._config = config
        self.runtimes = runtimes
        """Which containers there are; the stages before this one ask it as well."""
        self.counts = Stats()
        """What the stages have done; those before this one count here as well."""
        self._source = source
        self._metrics: Metrics | None = None
        self._detected: Mapping[str, AttributeValue] | None = None
        self._couriers: list[SignalExporter] = []
        self._backoffs: dict[str, RetryGate] = {}
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._translated = threading.Event()
        self._pulse = Liveness(STUCK_S)
        self._pulses = {"translate": self._pulse}
        self._threads = [self._thread("translate", self._run)]

    def start(self) -> None:
        """Begin; returns at once."""
        self._threads[0].start()

    def wake(self) -> None:
        """Say that there is something new in the journal."""
        self._translated.clear()
        self._wake.set()

    def look_again(self) -> None:
        """Say that there is something new in the outbox."""
        for courier in self._couriers:
            courier.wake()

    @property
    def trouble(self) -> str | None:
        """Which thread has ended or is stuck; ``None`` when all that were started are well."""
        for thread in self._threads:
            stuck_s = self._pulses[thread.name].stuck_s
            if thread.ident is not None and not thread.is_alive():
                return f"the thread {thread.name!r} has ended"
            if stuck_s is not None:
                return f"the thread {thread.name!r} has been at one step for {stuck_s:.0f} s"
        return None

    def stop(self, grace_s: float) -> None:
        """Try for at most ``grace_s`` seconds to send what waits, then end all threads.

        A backend that does not take anything now is not waited for: what is left is on disk.
        """
        deadline = time.monotonic() + grace_s
        self.wake()
        while time.monotonic() < deadline and not self._at_rest():
            time.sleep(_POLL_S)
        self._stop.set()
        self._wake.set()
        for courier in self._couriers:
            courier.stop()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()) + _POLL_S)
        if self._metrics:
            self._metrics.stop(_METRICS_S)

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        return threading.Thread(
            target=_keep_running, args=(work, self._stop), name=name, daemon=True
        )

    def _at_rest(self) -> bool:
        return self._translated.is_set() and all(courier.at_rest for courier in self._couriers)

    def _run(self) -> None:
        # What follows takes 15 MB and 0.2 s to import: after capture has begun.
        from otel_oom.agent.encoder import EventEncoder  # noqa: PLC0415
        from otel_oom.agent.liveness import ExporterStatus  # noqa: PLC0415
        from otel_oom.enrich.host import Host, environment_attributes, host_resource  # noqa: PLC0415
        from otel_oom.enrich.host_attributes import host_attributes  # noqa: PLC0415
        from otel_oom.enrich.user_stack import UserSymbolizer  # noqa: PLC0415
        from otel_oom.export.exporter import SignalExporter, connect  # noqa: PLC0415
        from otel_oom.export.retry import RetryGate  # noqa: PLC0415

        found, told = host_attributes(), {**self._detect(), **self._config.otlp.resource}
        said = environment_attributes(self._config.otlp.resource)
        host = Host(host_resource(found, told), UserSymbolizer(), said)
        encoder = EventEncoder(host, self.runtimes, self._boot_id)
        self._begin_metrics({**found, **told})
        for endpoint in self._config.otlp.endpoints[len(self._couriers) :]:
            backoff = self._backoffs.setdefault(endpoint.host, RetryGate())
            status = ExporterStatus(self.counts, endpoint.timeout_s)
            courier = SignalExporter(self._store, endpoint, connect(endpoint), backoff, status)
            self._pulses[endpoint.signal] = status.pulse
            thread = self._thread(endpoint.signal, courier.run)
            self._couriers.append(courier)
            self._threads.append(thread)
            thread.start()
        # All is there that it will ever need.
        if self._resident:
            memory.give_back()
            memory.hold()
        while not self._stop.is_set():
            self._pulse.busy()
            self._wake.clear()
            if self._stop.is_set():
                return
            self._translate(encoder)
            if not self._wake.is_set():
                self._translated.set()
            wait_s = min(self._store.maintain(), self._until_deadline_s())
            self._pulse.rest()
            self._wake.wait(wait_s)

    def _detect(self) -> Mapping[str, AttributeValue]:
        """What the user's resource detectors say of the host; once, though this may begin anew."""
        if self._detected is None:
            self._detected = {}
            if self._config.otlp.detectors:
                from otel_oom.enrich.resource_detectors import detect_resource  # noqa: PLC0415  as in _run()

                self._detected = detect_resource(self._config.otlp.detectors)
        return self._detected

    def _begin_metrics(self, resource: Mapping[str, AttributeValue]) -> None:
        """Tell of ourselves, if that is wanted; it must not be in the way of anything else."""
        if self._config.metrics is None or self._metrics:
            return
        try:
            from otel_oom.agent.metrics.instruments import Metrics  # noqa: PLC0415  as in _run()

            self._metrics = Metrics(
                self._config.metrics,
                resource,
                self._config.otlp.endpoints,
                self.counts,
                self._store,
            )
            if self._source:
                self._metrics.watch(self._source)
        except Exception:  # noqa: BLE001  whatever it was, kills come first
            _LOG.exception("The agent's own metrics can't be sent")

    def _until_deadline_s(self) -> float:
        """The time until some kill has waited long enough for its victim's exit."""
        oldest = self._store.oldest_pending_boottime_ns(self._boot_id)
        if oldest is None:
            return math.inf
        return max(0.0, (oldest - clock.boottime_ns()) / NS_PER_S + _EXIT_WAIT_S) + _POLL_S

    def _translate(self, encoder: EventEncoder) -> None:
        """Bring everything that can be told now into the outbox."""
        while not self._stop.is_set():
            deadline = clock.boottime_ns() - int(_EXIT_WAIT_S * NS_PER_S)
            self._pulse.busy()
            rows = self._store.pending_events(_ROWS, self._boot_id, deadline, encoder.decoded)
            if not rows:
                return
            encoded = self._encode(rows, encoder)
            self._store.enqueue(encoded)
            for courier in self._couriers:
                if any(entry.payloads[courier.signal] for entry in encoded):
                    courier.wake()

    def _encode(self, rows: Sequence[PendingEvent], encoder: EventEncoder) -> list[OutboxEntry]:
        encoded = []
        for row in rows:
            try:
                encoded.append(encoder.encode(row))
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  one row must not hold up all behind it
                _LOG.exception("Row %d of the journal can't be encoded", row.id)
                self._store.quarantine({row.id: f"{type(error).__name__}: {error}"})
        return encoded


def _keep_running(work: Callable[[], None], stop: threading.Event) -> None:
    """Do ``work`` until ``stop``, begun anew when it fails: all of it resumes from the disk."""
    told = ""
    while not stop.is_set():
        try:
            work()
        except sqlite3.Error as error:
            if str(error) != told:
                _LOG.warning("Delivery waits for the store: %s", error)
            told = str(error)
            stop.wait(_RESTART_S)
        except Exception:  # noqa: BLE001  a failure must not end delivery for good
            _LOG.exception("Delivery failed and is begun anew in %.0f s", _RESTART_S)
            stop.wait(_RESTART_S)
