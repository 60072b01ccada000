"""Send one signal from the outbox to its backend, oldest messages first."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from otel_oom.config.endpoint import GRPC
from otel_oom.config.exporters import Destination, InstalledExporter
from otel_oom.config.pod_events import PodEvents
from otel_oom.export.isolation import Isolation
from otel_oom.export.parking import Parking
from otel_oom.export.result import ExportObserver, ExportResponse, ExportResult, Transport
from otel_oom.export.retry import Report, RetryGate
from otel_oom.linux import clock
from otel_oom.store import Message, Rejection, Store

_LOG = logging.getLogger(__name__)

_MAX_BATCH: Final = 512
"""A larger batch drains a backlog no faster, and delays a kill that waits for the disk."""
_MAX_BATCH_BYTES: Final = 2 << 20
"""gRPC servers accept 4 MiB by default."""


def create_transport(endpoint: Destination) -> Transport:
    """Create the transport for the endpoint's protocol; only its client is imported."""
    if isinstance(endpoint, InstalledExporter):
        from otel_oom.export.installed import InstalledTransport  # noqa: PLC0415  OTLP needs none

        return InstalledTransport(endpoint)
    if isinstance(endpoint, PodEvents):
        from otel_oom.export.pod_events import PodEventTransport  # noqa: PLC0415  few agents need it

        return PodEventTransport(endpoint)
    if endpoint.protocol == GRPC:
        from otel_oom.export.grpc import GrpcTransport  # noqa: PLC0415  10 MB that HTTP spares

        return GrpcTransport(endpoint)
    from otel_oom.export.http import HttpTransport  # noqa: PLC0415  5 MB that gRPC spares

    return HttpTransport(endpoint)


class SignalExporter:
    """Exporter of one signal. :meth:`run` is its thread; other threads call the rest.

    A message leaves the outbox when the backend accepted it or rejected it for good, never
    otherwise. The number of retries is unlimited; only the wait between them is bounded.
    """

    def __init__(
        self,
        store: Store,
        endpoint: Destination,
        transport: Transport,
        gate: RetryGate | None = None,
        observer: ExportObserver | None = None,
    ) -> None:
        """Export the endpoint's signal from ``store`` through ``transport``.

        Exporters to the same host share its ``gate``; ``observer`` receives all results.
        """
        self._store = store
        self._endpoint = endpoint
        self.signal = endpoint.signal
        self._channel = endpoint.channel
        self._transport = transport
        self._gate = gate or RetryGate()
        self._max_batch = _MAX_BATCH
        self._max_batch_bytes = _MAX_BATCH_BYTES
        self._isolation = Isolation(_MAX_BATCH)
        self._parking = Parking()
        self._observer = observer or ExportObserver()
        self._boot_id = clock.boot_id()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._backing_off = False
        self._idle = False

    @property
    def is_idle(self) -> bool:
        """Return true if the outbox is empty, or the next retry is some time away."""
        # In this order: run() leaves the idle state before it clears the event.
        return self._backing_off or (not self._wake.is_set() and self._idle)

    def notify(self) -> None:
        """Announce new messages in the outbox."""
        self._wake.set()

    def stop(self) -> None:
        """End :meth:`run` at once; unsent messages stay in the outbox."""
        self._stop.set()
        self._wake.set()
        self._gate.wake_all()
        self._transport.close()

    def run(self) -> None:
        """Export until stopped."""
        while True:
            self._idle = False
            self._wake.clear()
            while self.send_next():
                pass
            if self._stop.is_set():
                # Checked after clear(), which may have undone the wake-up of stop().
                return
            self._idle = True
            self._observer.end_step()
            self._wake.wait(min(self._parking.wait_s, threading.TIMEOUT_MAX))

    def send_next(self) -> bool:
        """Send the oldest messages once the host may be tried; false if there are none."""
        # A failure of another signal delays this one as well.
        self._backing_off = self._gate.remaining_s() > 0
        self._observer.end_step()
        with self._gate.acquire(self._stop.is_set) as report:
            self._backing_off = False
            self._observer.begin_step()
            if self._stop.is_set():
                return False
            messages = self._next_messages()
            if messages:
                self._send(messages, report)
            return bool(messages)

    def _next_messages(self) -> Sequence[Message]:
        """Return a batch or a probe; without any, a parked message whose wait is over."""
        isolation, parked = self._isolation, self._parking.uids
        if isolation.is_probing:
            others = self._next_batch(_MAX_BATCH, [*parked, *isolation.probed_uids])
            if others:
                return [isolation.choose_probe(others)]
        messages = self._next_batch(min(self._max_batch, isolation.max_count), parked)
        if messages:
            return messages
        isolation.reset()
        while uid := self._parking.due_uid:
            message = self._store.find_message(self._channel, uid)
            if message:
                return [message]
            # It was dropped at the size limit.
            self._release(uid)
        return []

    def _next_batch(self, max_count: int, excluded: Sequence[str]) -> Sequence[Message]:
        # The transport may defer each of them: without a place, they wait in the outbox.
        max_count = min(max_count, self._parking.free_count)
        return self._store.next_batch(self._channel, max_count, self._max_batch_bytes, excluded)

    def _send(self, messages: Sequence[Message], report: Report) -> None:
        """Send messages, oldest first; bisect what the backend rejects."""
        batches = [messages]
        while batches and not self._stop.is_set():
            batch = batches.pop()
            if len(batch) > 1 and _size(batch) > self._max_batch_bytes:
                # The limit was learned after this batch was queued.
                batches += reversed(_halves(batch))
                continue
            self._observer.begin_step()
            self._observer.begin_request(self._channel, len(batch))
            response = self._transport.send(b"".join(message.payload for message in batch))
            self._observer.end_request(self._channel, response.error_type)
            if response.result is ExportResult.RETRYABLE:
                self._on_retryable(batch, response, report)
                return
            report(response)
            self._isolation.on_success()
            self._release(*(message.uid for message in batch))
            batches += reversed(self._handle_result(batch, response))

    def _on_retryable(
        self, messages: Sequence[Message], response: ExportResponse, report: Report
    ) -> None:
        uid, wait_s = messages[0].uid, None
        if self._parking.is_parked(uid) or self._isolation.on_failure(messages):
            wait_s = self._parking.park(uid, response.retry_after_s)
        if wait_s is None:
            report(response)
            self._log_retry(response)
            return
        # No report: others are accepted meanwhile.
        self._observer.on_parked(self._channel, self._parking.count)
        _LOG.warning(
            "%s keeps rejecting one of the %s (%s); parked, retrying it in %.0f s",
            *self._where(),
            response.reason,
            wait_s,
        )

    def _release(self, *uids: str) -> None:
        for uid in uids:
            if uid in self._parking:
                self._parking.release(uid)
                self._observer.on_parked(self._channel, self._parking.count)

    def _handle_result(
        self, messages: Sequence[Message], response: ExportResponse
    ) -> list[Sequence[Message]]:
        """Update the outbox; return the parts of the request that are to be sent again."""
        if response.result is ExportResult.ACCEPTED:
            self._on_accepted(messages, response)
            return []
        if response.result is ExportResult.TOO_LARGE and len(messages) > 1:
            # Half of it may still be too large, and is then halved again.
            self._max_batch_bytes = min(self._max_batch_bytes, _size(messages) // 2)
        if response.result is ExportResult.MISCONFIGURED or len(messages) == 1:
            self._on_rejected(messages, response.reason)
            self._observer.on_exported(self._channel, response.status_code, len(messages))
            return []
        # One message may be the cause. To find it among n takes 2 log2(n) requests; a backend
        # that rejects all gets at most two requests for each.
        return _halves(messages)

    def _on_accepted(self, messages: Sequence[Message], response: ExportResponse) -> None:
        if response.rejected >= len(messages):
            self._on_rejected(messages, f"rejected: {response.reason}")
            self._observer.on_exported(self._channel, "rejected", len(messages))
        elif response.rejected > 0:
            # OTLP does not say which ones, and the request must not be sent again. All become
            # ambiguous dead letters. From here on each message is sent alone, so that this
            # happens once for an endpoint.
            self._max_batch = 1
            reason = f"{response.rejected} of {len(messages)} rejected: {response.reason}"
            self._on_rejected(messages, reason, ambiguous=True)
            self._observer.on_exported(self._channel, "rejected", response.rejected)
            self._observer.on_exported(self._channel, "", len(messages) - response.rejected)
        else:
            if response.reason:
                _LOG.warning("%s accepted %s with a warning: %s", *self._where(), response.reason)
            self._on_sent(self._defer(messages, response.deferred_s))

    def _defer(
        self, messages: Sequence[Message], waits_s: Mapping[str, float]
    ) -> Sequence[Message]:
        """Leave some messages in the outbox for a while; return the others."""
        uids = {message.uid for message in messages}
        if not waits_s.keys() <= uids:
            # A processor changed a uid: any of them may be the one that waits.
            waits_s = dict.fromkeys(uids, min(waits_s.values()))
        for uid, wait_s in waits_s.items():
            self._parking.defer(uid, wait_s)
        return [message for message in messages if message.uid not in waits_s]

    def _on_sent(self, messages: Sequence[Message]) -> None:
        if messages:
            self._store.ack(messages)
            self._observer.on_exported(self._channel, "", len(messages))
            self._report_delays(messages)
            _LOG.info("Sent %d %s to %s", len(messages), self.signal, self._endpoint.redacted_url)

    def _report_delays(self, messages: Sequence[Message]) -> None:
        if self._observer.wants_delays:
            with suppress(sqlite3.Error):
                delays_s = self._store.stats.delivery_delays_s(messages, self._boot_id)
                self._observer.on_delivered(self.signal, delays_s)

    def _on_rejected(
        self, messages: Sequence[Message], reason: str, *, ambiguous: bool = False
    ) -> None:
        url = self._endpoint.redacted_url
        _LOG.error(
            "%s rejected %s%d %s; kept as dead letters, see otel-oom queue: %s",
            url,
            "some of " if ambiguous else "",
            len(messages),
            self.signal,
            reason,
        )
        self._store.reject(messages, Rejection(url, reason, ambiguous))

    def _log_retry(self, response: ExportResponse) -> None:
        _LOG.warning(
            "%s did not accept %s (%s); retrying in %.1f s",
            *self._where(),
            response.reason,
            self._gate.remaining_s(),
        )

    def _where(self) -> tuple[str, str]:
        return self._endpoint.redacted_url, self.signal


def _size(messages: Sequence[Message]) -> int:
    return sum(len(message.payload) for message in messages)


def _halves(messages: Sequence[Message]) -> list[Sequence[Message]]:
    middle = len(messages) // 2
    return [messages[:middle], messages[middle:]]
