"""Logs and traces to one host: one outage, one backoff, one try at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.export.exporter import SignalExporter
from otel_oom.export.retry import RetryGate
from tests.testlib.exporter import Outbox, make_exporter, run_exporter
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.slow  # they wait for retries


class Host:
    """A backend that records which signal arrives when, and fails for some requests."""

    def __init__(self, away: int, reply: Reply) -> None:
        """Answer the first ``away`` requests with ``reply``."""
        self.requests: list[tuple[str, float]] = []
        self._away = away
        self._reply = reply

    def __call__(self, request: Message) -> Reply | None:
        """Handle one request."""
        signal = "logs" if isinstance(request, ExportLogsServiceRequest) else "traces"
        self.requests.append((signal, time.monotonic()))
        return self._reply if len(self.requests) <= self._away else None


@contextmanager
def run_both(outbox: Outbox, url: str) -> Iterator[list[SignalExporter]]:
    """Run the exporters of both signals to one host."""
    shared = RetryGate()
    with ExitStack() as stack:
        yield [
            stack.enter_context(run_exporter(make_exporter(outbox.store, url, signal, shared)))
            for signal in ("logs", "traces")
        ]


def test_retry_after_of_one_signal_delays_the_other(outbox: Outbox) -> None:
    host = Host(1, Reply(503, (("Retry-After", "2"),)))
    with Receiver(host) as server, run_both(outbox, server.url) as (logs, traces):
        outbox.enqueue("a")
        logs.notify()
        wait_until(lambda: logs.is_idle and host.requests, "it waits", limit=CLIENT_TIMEOUT_S)
        outbox.enqueue("b", signal="traces")
        traces.notify()
        wait_until(lambda: traces.is_idle, "the other waits as well", limit=CLIENT_TIMEOUT_S)
        assert len(host.requests) == 1
        outbox.wait_until_empty()
    (_, failed), *later = host.requests
    assert sorted(signal for signal, _ in later) == ["logs", "traces"]
    assert min(at for _, at in later) - failed >= 2


def test_an_outage_is_probed_by_one_at_a_time(outbox: Outbox) -> None:
    """Both signals arrive when the host is back."""
    host = Host(4, Reply(503))
    outbox.enqueue("a")
    outbox.enqueue("b", signal="traces")
    with Receiver(host) as server, run_both(outbox, server.url):
        outbox.wait_until_empty()
    assert len(host.requests) == 4 + 2
    assert {signal for signal, _ in host.requests[4:]} == {"logs", "traces"}


def test_a_signal_that_always_fails_does_not_starve_the_other(outbox: Outbox) -> None:
    """Where a host accepts logs and never traces, new logs arrive."""

    def only_logs(request: Message) -> Reply | None:
        return None if isinstance(request, ExportLogsServiceRequest) else Reply(503)

    outbox.enqueue("b", signal="traces")
    with Receiver(only_logs) as server, run_both(outbox, server.url) as (logs, _):
        for number in range(3):
            outbox.enqueue(f"kill-{number}")
            logs.notify()
            wait_until(
                lambda: outbox.queued_uids() == ["b"], "the log arrives", limit=CLIENT_TIMEOUT_S
            )
