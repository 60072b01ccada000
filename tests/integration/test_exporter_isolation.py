"""A message that a backend answers 429 or 503 for ever holds up no other.

An outage looks the same at first: it gets no request more, and parks nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.config.endpoint import GRPC, HTTP, Endpoint
from otel_oom.export import parking, retry
from otel_oom.export.exporter import SignalExporter, create_transport
from otel_oom.export.result import ExportObserver
from otel_oom.store import Rejection
from tests.testlib.exporter import Outbox, RequestLog, run_exporter
from tests.testlib.servers.grpc_server import Call, GrpcServer
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S
from tests.testlib.wait import wait_until

UIDS = [f"kill-{number}" for number in range(51)]


class ParkedCount(ExportObserver):
    """The number of parked messages."""

    count = 0

    def on_parked(self, signal: str, count: int) -> None:
        """Keep the number."""
        assert signal == "logs"
        self.count = count


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for milliseconds after a failure, and for a minute when parked."""
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.0002)
    monkeypatch.setattr(retry, "_MAX_WAIT_S", 0.002)


def make(outbox: Outbox, url: str, parked: ParkedCount, protocol: str = HTTP) -> SignalExporter:
    """Return an exporter of logs."""
    path = "/v1/logs" if protocol == HTTP else ""
    endpoint = Endpoint("logs", protocol, url + path, timeout_s=CLIENT_TIMEOUT_S)
    transport = create_transport(endpoint)
    return SignalExporter(outbox.store, endpoint, transport, observer=parked)


def wait_for(done: Callable[[], object], what: str) -> None:
    """Wait until something is done."""
    wait_until(done, what, limit=CLIENT_TIMEOUT_S, every=0.005)


@pytest.mark.parametrize("index", [0, 25, 50])
@pytest.mark.parametrize("reply", [Reply(503), Reply(429, (("Retry-After", "0"),))])
def test_a_message_that_is_always_retryable_holds_up_no_other(
    outbox: Outbox, index: int, reply: Reply
) -> None:
    """It stays in the outbox, and is counted; the others arrive once."""
    poison = UIDS[index]
    received = RequestLog(lambda batch: reply if poison in batch else None)
    parked = ParkedCount()
    outbox.enqueue(*UIDS)
    with Receiver(received) as server, run_exporter(make(outbox, server.url, parked)) as running:
        wait_for(lambda: outbox.queued_uids() == [poison], "the others arrive")
        wait_for(lambda: parked.count, "it is parked")
        requests = len(received.requests)
        outbox.enqueue("later")
        running.notify()
        wait_for(lambda: outbox.queued_uids() == [poison], "the later one arrives")
    assert Counter(received.accepted) == Counter({*UIDS, "later"} - {poison})
    assert requests < 50
    assert received.requests[requests:] == [["later"]]
    assert parked.count == 1
    assert outbox.dead_letters() == []


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_grpc_likewise(outbox: Outbox, code: grpc.StatusCode) -> None:
    info = RetryInfo()

    def answer(call: Call, context: grpc.ServicerContext) -> bytes:
        request = ExportLogsServiceRequest.FromString(call.body)
        names = {
            record.event_name
            for group in request.resource_logs
            for record in group.scope_logs[0].log_records
        }
        if "kill-0" in names:
            context.set_trailing_metadata((("google.rpc.retryinfo-bin", info.SerializeToString()),))
            context.abort(code, "busy")
        return b""

    parked = ParkedCount()
    outbox.enqueue(*UIDS[:4])
    with GrpcServer(answer) as server:
        url = f"http://{server.address}"
        with run_exporter(make(outbox, url, parked, GRPC)):
            wait_for(lambda: parked.count, "it is parked")
            wait_for(lambda: outbox.queued_uids() == ["kill-0"], "the others arrive")


def test_an_outage_gets_one_message_a_retry_and_parks_nothing(outbox: Outbox) -> None:
    """Once the backend is back, each message arrives once."""
    received = RequestLog(lambda _: Reply(503) if len(received.requests) <= 30 else None)
    parked = ParkedCount()
    outbox.enqueue(*UIDS)
    with Receiver(received) as server, run_exporter(make(outbox, server.url, parked)):
        outbox.wait_until_empty()
    assert received.requests[:4] == [UIDS] * 4
    assert {len(batch) for batch in received.requests[4:31]} == {1}
    assert Counter(received.accepted) == Counter(UIDS)
    assert len(received.requests) == 30 + 2
    assert parked.count == 0


@pytest.mark.parametrize("start", range(4, 16, 2))
def test_an_outage_during_the_search_delays_no_other_for_long(
    outbox: Outbox, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it begins with the one request that decides, a good message is parked for once."""
    monkeypatch.setattr(parking, "_FIRST_WAIT_S", 0.1)

    def respond(batch: list[str]) -> Reply | None:
        is_down = start <= len(received.requests) < start + 8
        return Reply(503) if is_down or "kill-3" in batch else None

    received = RequestLog(respond)
    outbox.enqueue(*UIDS[:9])
    with Receiver(received) as server, run_exporter(make(outbox, server.url, ParkedCount())):
        wait_for(lambda: outbox.queued_uids() == ["kill-3"], "the others arrive")
    assert set(received.accepted) == {*UIDS[:9]} - {"kill-3"}
    assert len(received.accepted) == 8


def test_all_but_one_are_rejected_and_each_is_parked(outbox: Outbox) -> None:
    """New messages still arrive at once."""
    received = RequestLog(lambda batch: Reply(503) if set(batch) & set(UIDS) else None)
    parked = ParkedCount()
    outbox.enqueue(*UIDS[:5])
    with Receiver(received) as server, run_exporter(make(outbox, server.url, parked)) as running:
        for number in range(20):
            outbox.enqueue(f"good-{number}")
            running.notify()
            wait_for(lambda: received.accepted[-1:] == [f"good-{number}"], "it arrives")  # noqa: B023
            if parked.count == 5:
                break
    assert parked.count == 5


def test_one_good_message_among_many_bad_ones_arrives(outbox: Outbox) -> None:
    """Each message is a probe once before any is one again."""
    received = RequestLog(lambda batch: Reply(503) if {*batch} & {*UIDS} else None)
    outbox.enqueue(*UIDS[:25], "good", *UIDS[25:])
    with Receiver(received) as server, run_exporter(make(outbox, server.url, ParkedCount())):
        wait_for(lambda: received.accepted, "it arrives")
    assert received.accepted == ["good"]
    assert len(received.requests) < 2 * len(UIDS)


def test_a_message_that_must_be_sent_alone_holds_up_no_other(outbox: Outbox) -> None:
    """A dead letter of a partial success, sent again."""
    received = RequestLog(lambda batch: Reply(503) if {*batch} & {*UIDS} else None)
    outbox.enqueue(*UIDS[:2])
    batch = outbox.store.next_batch("logs", 2, 1 << 20)
    outbox.store.reject(batch, Rejection("http://collector", "1 of 2", ambiguous=True))
    outbox.store.dead_letters.resend([letter.id for letter in outbox.dead_letters()])
    outbox.enqueue("good", "better")
    with Receiver(received) as server, run_exporter(make(outbox, server.url, ParkedCount())):
        wait_for(lambda: sorted(received.accepted) == ["better", "good"], "they arrive")


def test_the_number_of_parked_messages_is_bounded(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it the others still pass."""
    monkeypatch.setattr(parking, "_MAX_PARKED", 2)
    bad = set(UIDS[:5])
    received = RequestLog(lambda batch: Reply(503) if bad & set(batch) else None)
    parked = ParkedCount()
    outbox.enqueue(*UIDS)
    with Receiver(received) as server, run_exporter(make(outbox, server.url, parked)):
        wait_for(lambda: set(outbox.queued_uids()) == bad, "the others arrive")
    assert parked.count <= 2


def test_a_parked_message_is_retried_with_its_own_backoff(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And arrives when the backend accepts it."""
    monkeypatch.setattr(parking, "_FIRST_WAIT_S", 0.01)
    accepting: list[bool] = []
    received = RequestLog(lambda batch: Reply(503) if "kill-0" in batch and not accepting else None)
    parked = ParkedCount()
    outbox.enqueue(*UIDS[:3])
    with Receiver(received) as server, run_exporter(make(outbox, server.url, parked)):
        wait_for(lambda: parked.count, "it is parked")
        requests = len(received.requests)
        wait_for(lambda: len(received.requests) >= requests + 4, "it is retried")
        accepting.append(True)
        outbox.wait_until_empty()
        wait_for(lambda: not parked.count, "it is no longer counted")
    assert sorted(received.accepted) == UIDS[:3]


def test_a_wait_that_is_requested_for_a_parked_message_delays_no_other(outbox: Outbox) -> None:
    """Retry-After is then about that message."""
    busy = Reply(429, (("Retry-After", "3600"),))

    def respond(batch: list[str]) -> Reply | None:
        if "kill-0" not in batch:
            return None
        return busy if len(batch) == 1 else Reply(503)

    parked = ParkedCount()
    outbox.enqueue(*UIDS[:3])
    received = RequestLog(respond)
    with Receiver(received) as server, run_exporter(make(outbox, server.url, parked)) as running:
        running.notify()
        wait_for(lambda: parked.count, "it is parked")
        outbox.enqueue("later")
        running.notify()
        wait_for(lambda: "later" in received.accepted, "the later one arrives")


def test_a_parked_message_that_was_dropped_is_forgotten(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size limit of the store may drop it."""
    monkeypatch.setattr(parking, "_FIRST_WAIT_S", 0.2)
    received = RequestLog(lambda batch: Reply(503) if "kill-0" in batch else None)
    parked = ParkedCount()
    outbox.enqueue(*UIDS[:3])
    with Receiver(received) as server, run_exporter(make(outbox, server.url, parked)):
        wait_for(lambda: parked.count, "it is parked")
        outbox.store.ack(outbox.store.next_batch("logs", 3, 1 << 20))
        wait_for(lambda: not parked.count, "it is no longer counted")
