"""The exporter between a real store and a real backend: what leaves the outbox, and when."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.config.endpoint import GRPC, Endpoint
from otel_oom.export.exporter import SignalExporter, create_transport
from tests.testlib.exporter import Outbox, RequestLog, make_exporter, run_exporter
from tests.testlib.process import free_port
from tests.testlib.servers.grpc_server import GrpcServer
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S, silent_server
from tests.testlib.wait import wait_until

PROMPT_S = 5.0
"""What counts as at once on a busy machine."""


@pytest.fixture
def switch_often() -> Iterator[None]:
    """Switch threads so often that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_an_accepted_message_leaves_the_outbox(outbox: Outbox) -> None:
    """A message is sent once the exporter is notified, once, and is then gone from the disk."""
    received = RequestLog()
    with (
        Receiver(received) as server,
        run_exporter(make_exporter(outbox.store, server.url)) as running,
    ):
        outbox.enqueue("a")
        running.notify()
        outbox.wait_until_empty()
        outbox.enqueue("b")
        running.notify()
        outbox.wait_until_empty()
    assert received.requests == [["a"], ["b"]]


def test_only_messages_of_its_own_signal_are_sent(outbox: Outbox) -> None:
    received = RequestLog()
    outbox.enqueue("a", signal="logs")
    outbox.enqueue("b", signal="traces")
    with Receiver(received) as server:
        with run_exporter(make_exporter(outbox.store, server.url, "traces")):
            wait_until(
                lambda: outbox.queued_uids() == ["a"], "the trace is sent", limit=CLIENT_TIMEOUT_S
            )
        with run_exporter(make_exporter(outbox.store, server.url, "logs")):
            outbox.wait_until_empty()
    assert received.requests == [["b"], ["a"]]


def test_a_backlog_is_one_request_oldest_first(outbox: Outbox) -> None:
    received = RequestLog()
    uids = [f"kill-{number}" for number in range(300)]
    outbox.enqueue(*uids)
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert received.requests == [uids]


def test_a_long_backlog_is_several_requests(outbox: Outbox) -> None:
    """No request exceeds what servers accept: 4 MiB with gRPC by default."""
    received = RequestLog()
    uids = [f"kill-{number}" for number in range(10)]
    outbox.enqueue(*uids, size=1 << 20)
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert received.accepted == uids
    assert max(received.sizes) < 4 << 20


def test_grpc_endpoint(outbox: Outbox) -> None:
    outbox.enqueue("a")
    with GrpcServer() as server:
        endpoint = Endpoint("logs", GRPC, f"http://{server.address}", timeout_s=CLIENT_TIMEOUT_S)
        with run_exporter(SignalExporter(outbox.store, endpoint, create_transport(endpoint))):
            outbox.wait_until_empty()
    assert len(server.calls) == 1


def test_retry_after_is_honoured(outbox: Outbox) -> None:
    """A message that was not accepted stays on disk, and is sent again after the wait."""
    busy = Reply(503, (("Retry-After", "2"),))
    received = RequestLog(lambda _: busy if len(received.requests) == 1 else None)
    outbox.enqueue("a")
    with (
        Receiver(received) as server,
        run_exporter(make_exporter(outbox.store, server.url)) as running,
    ):
        wait_until(lambda: running.is_idle, "it waits", limit=CLIENT_TIMEOUT_S)
        assert outbox.queued_uids() == ["a"]
        outbox.enqueue("b")
        running.notify()  # what is new does not cut the wait short, and goes along with the rest
        outbox.wait_until_empty()
    assert received.requests == [["a"], ["a", "b"]]
    assert received.times[1] - received.times[0] >= 2


def test_an_outage_delays_and_loses_nothing(outbox: Outbox) -> None:
    """All messages wait on disk; then each is delivered exactly once."""
    received = RequestLog()
    port = free_port()
    with run_exporter(make_exporter(outbox.store, f"http://127.0.0.1:{port}")) as running:
        for number in range(3):
            outbox.enqueue(f"kill-{number}")
            running.notify()
            wait_until(lambda: running.is_idle, "it waits for the next try", limit=CLIENT_TIMEOUT_S)
        assert outbox.queued_uids() == ["kill-0", "kill-1", "kill-2"]
        with Receiver(received, port):
            outbox.wait_until_empty()
    assert received.requests == [["kill-0", "kill-1", "kill-2"]]


def test_retries_are_unlimited(outbox: Outbox) -> None:
    """Each failed try is followed by another one, also without Retry-After."""
    received = RequestLog(lambda _: Reply(429) if len(received.requests) <= 3 else None)
    outbox.enqueue("a", "b")
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert received.requests == [["a", "b"]] * 4


def test_stop_ends_a_wait(outbox: Outbox) -> None:
    """An exporter that waits for an hour ends at once when it is stopped."""
    received = RequestLog(lambda _: Reply(503, (("Retry-After", "3600"),)))
    outbox.enqueue("a")
    with (
        Receiver(received) as server,
        run_exporter(make_exporter(outbox.store, server.url)) as running,
    ):
        wait_until(lambda: running.is_idle, "it waits", limit=CLIENT_TIMEOUT_S)
        began = time.monotonic()
    assert time.monotonic() - began < PROMPT_S
    assert received.requests == [["a"]]
    assert outbox.queued_uids() == ["a"]


def test_stop_ends_a_hanging_request(outbox: Outbox) -> None:
    """An exporter with a silent backend ends at once when it is stopped; nothing is lost."""
    outbox.enqueue("a")
    with silent_server() as address:
        with run_exporter(make_exporter(outbox.store, f"http://{address}")) as running:
            with pytest.raises(TimeoutError):
                wait_until(lambda: running.is_idle, "it hangs", limit=0.3)
            began = time.monotonic()
        assert time.monotonic() - began < PROMPT_S
    assert outbox.queued_uids() == ["a"]


def test_stop_ends_an_idle_exporter_and_one_that_never_ran(outbox: Outbox) -> None:
    """An exporter that is stopped before it runs sends nothing."""
    received = RequestLog()
    with Receiver(received) as server:
        with run_exporter(make_exporter(outbox.store, server.url)) as running:
            wait_until(lambda: running.is_idle, "it has nothing to do", limit=CLIENT_TIMEOUT_S)
        outbox.enqueue("a")
        stopped = make_exporter(outbox.store, server.url)
        stopped.stop()
        stopped.run()
    assert received.requests == []
    assert outbox.queued_uids() == ["a"]


@pytest.mark.usefixtures("switch_often")
def test_stop_is_never_overlooked(outbox: Outbox) -> None:
    with Receiver(RequestLog()) as server:
        for _ in range(300):
            with run_exporter(make_exporter(outbox.store, server.url)) as running:
                running.notify()


@pytest.mark.usefixtures("switch_often")
def test_notify_is_never_overlooked(outbox: Outbox) -> None:
    """Messages of any number of threads are each sent once, without another notification."""
    received = RequestLog()

    def produce(name: str) -> None:
        for number in range(50):
            outbox.enqueue(f"{name}-{number}")
            running.notify()

    with (
        Receiver(received) as server,
        run_exporter(make_exporter(outbox.store, server.url)) as running,
    ):
        threads = [threading.Thread(target=produce, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(CLIENT_TIMEOUT_S)
        outbox.wait_until_empty()
    assert sorted(received.accepted) == sorted(f"{name}-{n}" for name in "abcd" for n in range(50))


@pytest.mark.usefixtures("switch_often")
def test_idle_means_that_all_is_sent(outbox: Outbox) -> None:
    """From notify() on an exporter is idle only when the message is sent."""
    with (
        Receiver(RequestLog()) as server,
        run_exporter(make_exporter(outbox.store, server.url)) as running,
    ):
        for number in range(200):
            outbox.enqueue(f"kill-{number}")
            running.notify()
            wait_until(lambda: running.is_idle, "it is sent", limit=CLIENT_TIMEOUT_S, every=0)
            assert outbox.queued_uids() == []
