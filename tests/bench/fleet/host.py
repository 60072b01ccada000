"""A simulated host: the agent's own exporters and back-off, around an outbox in memory."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, cast

from msgspec import Struct

from otel_oom.export.exporter import SignalExporter
from otel_oom.export.result import ExportResponse, ExportResult, Transport
from otel_oom.export.retry import RetryGate
from otel_oom.store import Message, Rejection, Store

SIGNALS: Final = ("logs", "traces")
_PARKED_S: Final = 1.0
"""Seconds until a host looks again after a message that waits apart from the others."""


class Attempt(Struct, frozen=True):
    """A request of a host: its Unix time in seconds, and whether the gateway accepted it."""

    unix_s: float
    host: int
    size: int
    accepted: bool


class MemoryOutbox:
    """What an exporter needs of a store, in memory: a thousand stores would measure the disk."""

    def __init__(self) -> None:
        self._messages: dict[str, dict[str, Message]] = {signal: {} for signal in SIGNALS}
        self.rejected: list[str] = []

    def __len__(self) -> int:
        return sum(map(len, self._messages.values()))

    def has(self, channel: str) -> bool:
        """Return whether a channel has a message."""
        return bool(self._messages[channel])

    def add(self, uid: str, messages: Mapping[str, bytes]) -> None:
        """Queue the messages of a kill."""
        for channel, payload in messages.items():
            self._messages[channel][uid] = Message(0, uid, payload, channel)

    def next_batch(
        self, channel: str, max_count: int, max_bytes: int, excluded: Collection[str] = ()
    ) -> Sequence[Message]:
        """Return the oldest messages, at most so many, and so many bytes beyond the first."""
        batch: list[Message] = []
        size = 0
        for uid, message in self._messages[channel].items():
            size += len(message.payload)
            if len(batch) == max_count or (batch and size > max_bytes):
                break
            if uid not in excluded:
                batch.append(message)
        return batch

    def find_message(self, channel: str, uid: str) -> Message | None:
        """Return a message that waits apart."""
        return self._messages[channel].get(uid)

    def ack(self, messages: Sequence[Message]) -> None:
        """Delete accepted messages."""
        for message in messages:
            del self._messages[message.channel][message.uid]

    def reject(self, messages: Sequence[Message], _: Rejection) -> None:
        """Note what a gateway rejected for good, which none should."""
        self.rejected += [message.uid for message in messages]
        self.ack(messages)


class LossyTransport:
    """A transport that reports each request, and loses the response to the first ones."""

    def __init__(
        self, inner: Transport, host: int, losses: int, report: Callable[[Attempt], None]
    ) -> None:
        self._inner = inner
        self._host = host
        self._losses = losses
        self._report = report

    def send(self, body: bytes) -> ExportResponse:
        """Send once."""
        began = time.time()
        response = self._inner.send(body)
        accepted = response.result is ExportResult.ACCEPTED
        self._report(Attempt(began, self._host, len(body), accepted))
        if accepted and self._losses:
            self._losses -= 1
            return ExportResponse(ExportResult.RETRYABLE, "the response was lost")
        return response

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()


class SimulatedHost:
    """A host with kills at given times, which one thread at a time advances."""

    def __init__(
        self,
        kills: Sequence[tuple[float, Callable[[], tuple[str, Mapping[str, bytes]]]]],
        exporters: Callable[[Store, RetryGate], Sequence[SignalExporter]],
    ) -> None:
        """Make a host; a kill is its Unix time and a function that encodes it."""
        self.outbox = MemoryOutbox()
        self._kills = deque(kills)
        self._gate = RetryGate()
        self._exporters = exporters(cast("Store", self.outbox), self._gate)

    def advance(self) -> float:
        """Queue the kills that are due, and send; return the Unix time of the next step.

        It is infinite once all is delivered.
        """
        while self._kills and self._kills[0][0] <= time.time():
            self.outbox.add(*self._kills.popleft()[1]())
        for exporter in self._exporters:
            while self._can_send(exporter) and exporter.send_next():
                pass
        next_kill = self._kills[0][0] if self._kills else math.inf
        if not self.outbox:
            return next_kill
        return min(next_kill, time.time() + (self._gate.remaining_s() or _PARKED_S))

    def close(self) -> None:
        """Close its connections."""
        for exporter in self._exporters:
            exporter.stop()

    def _can_send(self, exporter: SignalExporter) -> bool:
        return self._gate.remaining_s() == 0 and self.outbox.has(exporter.signal)
