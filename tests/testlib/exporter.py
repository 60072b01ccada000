"""An exporter, the outbox that it empties, and a log of the requests that a backend received."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.commands.demo.receiver import Reply
from otel_oom.config.endpoint import HTTP, Endpoint
from otel_oom.export.exporter import SignalExporter, create_transport
from otel_oom.export.retry import RetryGate
from otel_oom.store import DeadLetter, OutboxEntry, Store, StoreLimits
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S
from tests.testlib.wait import wait_until

_ALL = 1 << 40


class Outbox:
    """A store of the test's own, with messages that are named by their uid."""

    def __init__(self, folder: Path, limits: StoreLimits = StoreLimits()) -> None:  # noqa: B008  frozen
        """Open a new store in ``folder``."""
        self.store = Store(folder, limits)
        self.store.__enter__()
        self._open = True

    def enqueue(self, *uids: str, signal: str = "logs", size: int = 0) -> None:
        """Queue a message of about ``size`` bytes for each uid."""
        payloads = [(uid, _payload(uid, signal, size)) for uid in uids]
        self.store.enqueue(
            [
                OutboxEntry(0, uid, payload, None)
                if signal == "logs"
                else OutboxEntry(0, uid, None, payload)
                for uid, payload in payloads
            ]
        )

    def queued_uids(self) -> list[str]:
        """Return the uids of the messages in the outbox, oldest first, logs before traces."""
        return [
            message.uid
            for signal in ("logs", "traces")
            for message in self.store.next_batch(signal, _ALL, _ALL)
        ]

    def wait_until_empty(self) -> None:
        """Wait until no message is left."""
        wait_until(
            lambda: not self.queued_uids(),
            "the outbox is empty",
            limit=CLIENT_TIMEOUT_S,
            every=0.01,
        )

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters, oldest first."""
        return self.store.dead_letters.page(0, _ALL)

    def dead_letter_reasons(self) -> list[tuple[str, str]]:
        """Return uid and reason of each dead letter."""
        return [(letter.uid, letter.reason) for letter in self.dead_letters()]

    def close(self) -> None:
        """Close the store unless it is closed."""
        if self._open:
            self.store.__exit__(None, None, None)
        self._open = False


class RequestLog:
    """A callback of :class:`Receiver` that records the requests."""

    def __init__(self, respond: Callable[[list[str]], Reply | None] = lambda _: None) -> None:
        """Accept every request, unless ``respond`` returns a reply to its uids."""
        self._respond = respond
        self.requests: list[list[str]] = []
        """The uids of each request."""
        self.times: list[float] = []
        """The time of each request on the monotonic clock."""
        self.sizes: list[int] = []
        """The bytes of each request."""
        self.accepted: list[str] = []
        """The uids of the accepted requests, in order."""

    def __call__(self, request: Message) -> Reply | None:
        """Record one request, and accept or reject it."""
        uids = _uids(request)
        self.times.append(time.monotonic())
        self.sizes.append(request.ByteSize())
        self.requests.append(uids)
        reply = self._respond(uids)
        if reply is None:
            self.accepted += uids
        return reply


def make_exporter(
    store: Store, url: str, signal: str = "logs", backoff: RetryGate | None = None
) -> SignalExporter:
    """Return an exporter to the HTTP backend at ``url``."""
    endpoint = Endpoint(signal, HTTP, f"{url}/v1/{signal}", timeout_s=CLIENT_TIMEOUT_S)
    return SignalExporter(store, endpoint, create_transport(endpoint), backoff)


@contextmanager
def run_exporter(exporter: SignalExporter) -> Iterator[SignalExporter]:
    """Run an exporter in a thread of its own; stop it at the end, which must end the thread."""
    thread = threading.Thread(target=exporter.run, daemon=True)
    thread.start()
    try:
        yield exporter
    finally:
        exporter.stop()
        thread.join(CLIENT_TIMEOUT_S)
        assert not thread.is_alive(), "a stopped exporter still runs"


def _payload(uid: str, signal: str, size: int) -> bytes:
    if signal == "logs":
        logs = ExportLogsServiceRequest()
        record = logs.resource_logs.add().scope_logs.add().log_records.add(event_name=uid)
        record.body.string_value = "x" * size
        return logs.SerializeToString()
    traces = ExportTraceServiceRequest()
    traces.resource_spans.add().scope_spans.add().spans.add(name=uid)
    return traces.SerializeToString()


def _uids(request: Message) -> list[str]:
    if isinstance(request, ExportLogsServiceRequest):
        return [
            record.event_name
            for group in request.resource_logs
            for scope in group.scope_logs
            for record in scope.log_records
        ]
    assert isinstance(request, ExportTraceServiceRequest)
    return [
        span.name
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]
