"""From the outbox to the backend: one signal's messages, oldest first, until they are taken."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_result
from tenacity.nap import sleep_using_event

from otel_oom.config.endpoint import GRPC, Endpoint
from otel_oom.export.observer import ExportObserver
from otel_oom.export.result import ExportResponse, ExportResult, Transport
from otel_oom.export.retry import RetryGate
from otel_oom.linux import clock
from otel_oom.store import Message, Rejection, Store

_LOG = logging.getLogger(__name__)

_BATCH: Final = 512
"""A larger one drains a backlog no faster, and keeps a kill waiting longer for the disk."""
_BATCH_BYTES: Final = 2 << 20
"""A gRPC server takes 4 MiB unless it is told otherwise."""


def connect(endpoint: Endpoint) -> Transport:
    """The transport for an endpoint's protocol; only that one's client is imported."""
    if endpoint.protocol == GRPC:
        from otel_oom.export.grpc import GrpcTransport  # noqa: PLC0415  10 MB that HTTP spares

        return GrpcTransport(endpoint)
    from otel_oom.export.http import HttpTransport  # noqa: PLC0415  5 MB that gRPC spares

    return HttpTransport(endpoint)


class SignalExporter:
    """Delivers one signal. :meth:`run` is a thread's whole life; the rest is for other threads.

    A message leaves the outbox when the backend has taken it or refused it for good, never
    otherwise. Only the time between tries is bounded, not their number.
    """

    def __init__(
        self,
        store: Store,
        endpoint: Endpoint,
        transport: Transport,
        backoff: RetryGate | None = None,
        observer: ExportObserver | None = None,
    ) -> None:
        """Deliver what ``store`` has of the endpoint's signal through ``transport``.

        Exporters to one host share its ``backoff``; ``observer`` gets what has become of it all.
        """
        self._store = store
        self._endpoint = endpoint
        self._transport = transport
        self._backoff = backoff or RetryGate()
        self._most = _BATCH
        self._most_bytes = _BATCH_BYTES
        self._observer = observer or ExportObserver()
        self._boot_id = clock.boot_id()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._backing_off = False
        self._idle = False

    @property
    def signal(self) -> str:
        """The signal it delivers."""
        return self._endpoint.signal

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do now: all sent, or the next try is some time away."""
        # In this order: run() ends its rest before it clears what woke it.
        return self._backing_off or (not self._wake.is_set() and self._idle)

    def wake(self) -> None:
        """Say that there is something new in the outbox."""
        self._wake.set()

    def stop(self) -> None:
        """End :meth:`run` at once, whatever it waits for; what waits stays in the outbox."""
        self._stop.set()
        self._wake.set()
        self._backoff.look_up()
        self._transport.close()

    def run(self) -> None:
        """Send until stopped."""
        retrying = Retrying(
            retry=retry_if_result(
                lambda answer: answer and answer.verdict is ExportResult.RETRYABLE
            ),
            wait=lambda _: self._backoff.left_s(),
            stop=lambda _: self._stop.is_set(),
            sleep=sleep_using_event(self._stop),
            before_sleep=self._report_wait,
            retry_error_callback=lambda _: None,
        )
        while True:
            self._idle = False
            self._wake.clear()
            while retrying(self._send_next):
                pass
            if self._stop.is_set():
                # Looked at after clear(), which may have taken back the wake-up of stop().
                return
            self._idle = True
            self._observer.rest()
            self._wake.wait()

    def _send_next(self) -> ExportResponse | None:
        """Send the oldest messages; ``None`` when there are none, or no more time.

        A retry sends what is then oldest, so it may send more.
        """
        # Another's failure keeps it waiting as its own does.
        self._backing_off = self._backoff.left_s() > 0
        self._observer.rest()
        with self._backoff.turn(self._stop.is_set) as heard:
            self._backing_off = False
            self._observer.begin_step()
            if self._stop.is_set():
                return None
            messages = self._store.next_batch(self.signal, self._most, self._most_bytes)
            return self._send(messages, heard) if messages else None

    def _send(
        self, messages: Sequence[Message], heard: Callable[[ExportResponse], None]
    ) -> ExportResponse | None:
        """Send messages, and those of a refused request again by halves, oldest first."""
        answer = None
        parts = [messages]
        while parts and not self._stop.is_set():
            part = parts.pop()
            if len(part) > 1 and _size(part) > self._most_bytes:
                # Known since it was put here: it is too large.
                parts += reversed(_halves(part))
                continue
            self._observer.begin_step()
            answer = self._transport.send(b"".join(message.payload for message in part))
            heard(answer)
            if answer.verdict is ExportResult.RETRYABLE:
                break
            parts += reversed(self._settle(part, answer))
        return answer

    def _settle(
        self, messages: Sequence[Message], answer: ExportResponse
    ) -> list[Sequence[Message]]:
        """Do what an answer says of a request; the parts of it that are to be sent again."""
        if answer.verdict is ExportResult.ACCEPTED:
            self._taken(messages, answer)
            return []
        if answer.verdict is ExportResult.TOO_LARGE and len(messages) > 1:
            # Half of it may be too much still, and is then halved again.
            self._most_bytes = min(self._most_bytes, _size(messages) // 2)
        if answer.verdict is ExportResult.MISCONFIGURED or len(messages) == 1:
            self._refused(messages, answer.reason)
            self._observer.exported(self.signal, answer.code, len(messages))
            return []
        # One of them may be all that the backend minds. To find one among n takes 2 log2(n)
        # requests; a backend that minds all gets two for each at the most.
        return _halves(messages)

    def _taken(self, messages: Sequence[Message], answer: ExportResponse) -> None:
        if answer.rejected >= len(messages):
            self._refused(messages, f"rejected: {answer.reason}")
            self._observer.exported(self.signal, "rejected", len(messages))
        elif answer.rejected > 0:
            # OTLP does not tell which ones, and the request must not be sent again. All are
            # kept aside as perhaps taken; from here on each goes alone, so that this happens
            # to an endpoint once.
            self._most = 1
            reason = f"{answer.rejected} of {len(messages)} rejected: {answer.reason}"
            self._refused(messages, reason, ambiguous=True)
            self._observer.exported(self.signal, "rejected", answer.rejected)
            self._observer.exported(self.signal, "", len(messages) - answer.rejected)
        else:
            if answer.reason:
                _LOG.warning("%s took the %s with a warning: %s", *self._where(), answer.reason)
            self._store.ack(messages)
            self._observer.exported(self.signal, "", len(messages))
            self._measure(messages)
            _LOG.info("Sent to %s: %d", self._endpoint.redacted_url, len(messages))

    def _measure(self, messages: Sequence[Message]) -> None:
        """Tell how long they took, if somebody wants to know; nothing else waits for that."""
        if self._observer.measures_delays:
            with suppress(sqlite3.Error):
                lags_s = self._store.stats.delivery_delays_s(messages, self._boot_id)
                self._observer.delivered_after(self.signal, lags_s)

    def _refused(
        self, messages: Sequence[Message], reason: str, *, ambiguous: bool = False
    ) -> None:
        _LOG.error(
            "%s refused %s%d %s for good; kept as dead letters, see otel-oom queue: %s",
            self._endpoint.redacted_url,
            "some of " if ambiguous else "",
            len(messages),
            self.signal,
            reason,
        )
        self._store.reject(messages, Rejection(self._endpoint.redacted_url, reason, ambiguous))

    def _report_wait(self, state: RetryCallState) -> None:
        answer: ExportResponse = (
            state.outcome.result() if state.outcome else ExportResponse(ExportResult.RETRYABLE)
        )
        wait_s = state.next_action.sleep if state.next_action else 0.0
        self._backing_off = True
        self._observer.rest()
        _LOG.warning(
            "%s does not take %s now (%s); next try in %.1f s",
            *self._where(),
            answer.reason,
            wait_s,
        )

    def _where(self) -> tuple[str, str]:
        return self._endpoint.redacted_url, self.signal


def _size(messages: Sequence[Message]) -> int:
    return sum(len(message.payload) for message in messages)


def _halves(messages: Sequence[Message]) -> list[Sequence[Message]]:
    middle = len(messages) // 2
    return [messages[:middle], messages[middle:]]
