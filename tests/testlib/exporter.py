"""A courier at work, the outbox that it empties, and a backend that keeps count."""

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
from otel_oom.export.exporter import SignalExporter, connect
from otel_oom.export.retry import RetryGate
from otel_oom.store import DeadLetter, OutboxEntry, Store, StoreLimits
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S
from tests.testlib.wait import wait_until

_ALL = 1 << 40


class Outbox:
    """A store of a test's own, with messages that are named by their uid."""

    def __init__(self, folder: Path, bounds: StoreLimits = StoreLimits()) -> None:  # noqa: B008  frozen
        """Open a new one in ``folder``."""
        self.store = Store(folder, bounds)
        self.store.__enter__()
        self._open = True

    def put(self, *uids: str, signal: str = "logs", size: int = 0) -> None:
        """Queue a message for each, of about ``size`` bytes."""
        payloads = [(uid, _payload(uid, signal, size)) for uid in uids]
        self.store.enqueue(
            [
                OutboxEntry(0, uid, payload, None)
                if signal == "logs"
                else OutboxEntry(0, uid, None, payload)
                for uid, payload in payloads
            ]
        )

    def waiting(self) -> list[str]:
        """The uids that are still on disk to be sent, oldest first, logs before traces."""
        return [
            message.uid
            for signal in ("logs", "traces")
            for message in self.store.next_batch(signal, _ALL, _ALL)
        ]

    def empties(self) -> None:
        """Wait until nothing is left to be sent."""
        wait_until(
            lambda: not self.waiting(), "the outbox empties", limit=CLIENT_TIMEOUT_S, every=0.01
        )

    def letters(self) -> list[DeadLetter]:
        """The dead letters, oldest first."""
        return self.store.dead_letters(0, _ALL)

    def dead(self) -> list[tuple[str, str]]:
        """The uids of the dead letters and the reasons."""
        return [(letter.uid, letter.reason) for letter in self.letters()]

    def close(self) -> None:
        """Close the store, if that has not been done."""
        if self._open:
            self.store.__exit__(None, None, None)
        self._open = False


class RequestLog:
    """What a :class:`Receiver` calls: keeps what comes, and answers by ``answer``."""

    def __init__(self, answer: Callable[[list[str]], Reply | None] = lambda _: None) -> None:
        """Take everything, unless ``answer`` has a reply to the uids of a request."""
        self._answer = answer
        self.requests: list[list[str]] = []
        """The uids of each request."""
        self.times: list[float] = []
        """When it came, on the monotonic clock."""
        self.sizes: list[int] = []
        """Its bytes."""
        self.taken: list[str] = []
        """The uids of the requests that were answered with success, in order."""

    def __call__(self, request: Message) -> Reply | None:
        """Judge one request."""
        uids = _uids(request)
        self.times.append(time.monotonic())
        self.sizes.append(request.ByteSize())
        self.requests.append(uids)
        reply = self._answer(uids)
        if reply is None:
            self.taken += uids
        return reply


def make_exporter(
    store: Store, url: str, signal: str = "logs", backoff: RetryGate | None = None
) -> SignalExporter:
    """A courier to the HTTP backend at ``url``."""
    endpoint = Endpoint(signal, HTTP, f"{url}/v1/{signal}", timeout_s=CLIENT_TIMEOUT_S)
    return SignalExporter(store, endpoint, connect(endpoint), backoff)


@contextmanager
def run_exporter(running: SignalExporter) -> Iterator[SignalExporter]:
    """Run it in a thread of its own; on leaving, stop it and see that the thread ends."""
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.stop()
        thread.join(CLIENT_TIMEOUT_S)
        assert not thread.is_alive(), "a stopped courier goes on"


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
