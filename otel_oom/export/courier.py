"""From the outbox to the backend: one signal's messages, oldest first, until they are taken."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_result, wait_random_exponential
from tenacity.nap import sleep_using_event

from otel_oom.export.answer import Answer, Transport, Verdict
from otel_oom.export.settings import GRPC, Endpoint
from otel_oom.store import Message, Store

_LOG = logging.getLogger(__name__)

_BATCH: Final = 512
_BATCH_BYTES: Final = 2 << 20
"""A gRPC server takes 4 MiB unless it is told otherwise."""

_FIRST_WAIT_S: Final = 1
_LONGEST_WAIT_S: Final = 60
_LONGEST_ASKED_S: Final = 3600
"""What a backend may ask for at the most: past it, asking again does no harm."""


def connect(endpoint: Endpoint) -> Transport:
    """The transport for an endpoint's protocol; only that one's client is imported."""
    if endpoint.protocol == GRPC:
        from otel_oom.export.grpc import GrpcTransport  # noqa: PLC0415  10 MB that HTTP spares

        return GrpcTransport(endpoint)
    from otel_oom.export.http import HttpTransport  # noqa: PLC0415  5 MB that gRPC spares

    return HttpTransport(endpoint)


class Courier:
    """Delivers one signal. :meth:`run` is a thread's whole life; the rest is for other threads.

    A message leaves the outbox when the backend has taken it or refused it for good, never
    otherwise. Only the time between tries is bounded, not their number.
    """

    def __init__(self, store: Store, endpoint: Endpoint, transport: Transport) -> None:
        """Deliver what ``store`` has of the endpoint's signal through ``transport``."""
        self._store = store
        self._endpoint = endpoint
        self._transport = transport
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
        self._transport.close()

    def run(self) -> None:
        """Send until stopped."""
        retrying = Retrying(
            retry=retry_if_result(lambda answer: answer and answer.verdict is Verdict.LATER),
            wait=_wait,
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
            self._wake.wait()

    def _send_next(self) -> Answer | None:
        """Send the oldest messages; ``None`` when there are none, or no more time.

        A retry sends what is then oldest, so it may send more.
        """
        self._backing_off = False
        if self._stop.is_set():
            return None
        messages = self._store.waiting(self.signal, _BATCH, _BATCH_BYTES)
        return self._send(messages) if messages else None

    def _send(self, messages: Sequence[Message]) -> Answer:
        answer = self._transport.send(b"".join(message.payload for message in messages))
        if answer.verdict is Verdict.TAKEN:
            self._taken(messages, answer)
        elif answer.verdict is Verdict.REFUSED and len(messages) > 1:
            # One of them may be all that the backend minds: each is judged alone.
            for message in messages:
                answer = self._send([message])
                if answer.verdict is Verdict.LATER or self._stop.is_set():
                    break
        elif answer.verdict is Verdict.REFUSED:
            self._refused(messages, answer.reason)
        return answer

    def _taken(self, messages: Sequence[Message], answer: Answer) -> None:
        if answer.rejected:
            # OTLP does not tell which ones; the request must not be sent again.
            reason = f"{answer.rejected} of {len(messages)} rejected: {answer.reason}"
            self._refused(messages, reason)
            return
        if answer.reason:
            _LOG.warning("%s took the %s with a warning: %s", *self._where(), answer.reason)
        self._store.delivered(messages)
        _LOG.info("Sent to %s: %d", self._endpoint.shown, len(messages))

    def _refused(self, messages: Sequence[Message], reason: str) -> None:
        _LOG.error(
            "%s refused %d %s for good; kept as dead letters: %s",
            self._endpoint.shown,
            len(messages),
            self.signal,
            reason,
        )
        self._store.refused(messages, reason)

    def _report_wait(self, state: RetryCallState) -> None:
        answer: Answer = state.outcome.result() if state.outcome else Answer(Verdict.LATER)
        wait_s = state.next_action.sleep if state.next_action else 0.0
        self._backing_off = True
        _LOG.warning(
            "%s does not take %s now (%s); next try in %.1f s",
            *self._where(),
            answer.reason,
            wait_s,
        )

    def _where(self) -> tuple[str, str]:
        return self._endpoint.shown, self.signal


_backoff = wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)


def _wait(state: RetryCallState) -> float:
    """What the backend asked for, else a random time below an exponentially growing bound."""
    asked = state.outcome.result().wait_s if state.outcome else None
    own = _backoff(state)
    return own if asked is None else min(max(asked, own), _LONGEST_ASKED_S)
