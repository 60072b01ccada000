"""What a courier does with what is refused, in whole or in part: nobody waits for it, and it stays.

The requests are counted: what a backend refuses must not cost it a request for each message.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.config.endpoint import GRPC, HTTP, Endpoint
from otel_oom.export.exporter import SignalExporter, create_transport
from tests.testlib.exporter import Outbox, RequestLog, make_exporter, run_exporter
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S
from tests.testlib.servers.recorder import run_recorder
from tests.testlib.wait import wait_until

_SMALL = {
    HTTP: {"http": {"max_request_body_size": 1_000_000}},
    GRPC: {"grpc": {"max_recv_msg_size_mib": 1}},
}
"""Settings of a Collector's receiver that takes a megabyte at once."""


def uids(count: int) -> list[str]:
    """Names for so many messages."""
    return [f"kill-{number}" for number in range(count)]


def rejecting(rejected: int, words: str) -> Reply:
    """Success but for ``rejected`` records (OTLP/HTTP Response, Partial Success)."""
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = words
    return Reply(200, body=response.SerializeToString())


@pytest.mark.parametrize("place", [0, 333, 511])
def test_one_poisonous_record_is_set_aside_alone(outbox: Outbox, place: int) -> None:
    """A message that the backend will never take becomes a dead letter; the others arrive once.

    It is found by halving: of 512 in 1 + 2 * 9 requests.
    """
    sent = uids(512)
    poison = sent[place]
    received = RequestLog(lambda batch: Reply(400, body=b"cannot") if poison in batch else None)
    outbox.enqueue(*sent)
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert received.accepted == [uid for uid in sent if uid != poison]
    assert outbox.dead_letter_reasons() == [(poison, "HTTP 400: cannot")]
    assert len(received.requests) <= 1 + 2 * 9


def test_what_is_refused_is_kept_with_who_refused_it(outbox: Outbox) -> None:
    """A dead letter says of which signal it is, who refused it, without secrets, and why."""
    outbox.enqueue("a", signal="traces")
    with Receiver(RequestLog(lambda _: Reply(400, body=b"cannot"))) as server:
        url = f"{server.url}/v1/traces"
        endpoint = Endpoint("traces", HTTP, f"{url}?token=secret", timeout_s=CLIENT_TIMEOUT_S)
        plain = Endpoint("traces", HTTP, url, timeout_s=CLIENT_TIMEOUT_S)
        with run_exporter(SignalExporter(outbox.store, endpoint, create_transport(plain))):
            outbox.wait_until_empty()
    (letter,) = outbox.dead_letters()
    assert (letter.uid, letter.signal, letter.endpoint) == ("a", "traces", url)
    assert (letter.reason, letter.ambiguous) == ("HTTP 400: cannot", False)
    assert letter.size > 0
    assert letter.rejected_unix_ns > 0


def test_an_outage_while_poison_is_sought(outbox: Outbox) -> None:
    """If the backend fails while messages are judged by halves, the rest is judged later."""
    failed = threading.Event()

    def answer(batch: list[str]) -> Reply | None:
        if "d" in batch:
            return Reply(400, body=b"cannot")
        if "b" in batch and not failed.is_set():
            failed.set()
            return Reply(503)
        return None

    received = RequestLog(answer)
    outbox.enqueue("a", "b", "c", "d", "e")
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert failed.is_set()
    assert received.accepted == ["a", "b", "c", "e"]
    assert outbox.dead_letter_reasons() == [("d", "HTTP 400: cannot")]


def test_a_backend_that_minds_each_is_asked_twice_for_each_at_most(outbox: Outbox) -> None:
    """Where every message is refused by itself, halving costs no more than twice the messages."""
    received = RequestLog(lambda _: Reply(400))
    outbox.enqueue(*uids(64))
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert len(received.requests) < 2 * 64
    assert [letter.uid for letter in outbox.dead_letters()] == uids(64)


@pytest.mark.parametrize("status", [302, 401, 404])
def test_a_wrong_address_is_asked_once(outbox: Outbox, status: int) -> None:
    """A place that takes nothing from us gets one request for all, and all are kept."""
    received = RequestLog(lambda _: Reply(status))
    outbox.enqueue(*uids(64))
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert len(received.requests) == 1
    assert [letter.uid for letter in outbox.dead_letters()] == uids(64)
    assert not any(letter.ambiguous for letter in outbox.dead_letters())


def test_too_much_at_once_is_split_and_remembered(outbox: Outbox) -> None:
    """After 413 requests stay below what was too large: no batch pays for it again."""
    limit = 110_000
    received = RequestLog(lambda _: Reply(413) if received.sizes[-1] > limit else None)
    outbox.enqueue(*uids(400), size=4000)
    with (
        Receiver(received) as server,
        run_exporter(make_exporter(outbox.store, server.url)) as running,
    ):
        outbox.wait_until_empty()
        outbox.enqueue("a", "b", *uids(400), size=4000)
        running.notify()
        outbox.wait_until_empty()
    assert received.accepted == [*uids(400), "a", "b", *uids(400)]
    assert outbox.dead_letters() == []
    # 1.6 MB, halved until it was below the limit.
    assert len([size for size in received.sizes if size > limit]) == 4


def test_one_that_is_too_large_by_itself_is_set_aside(outbox: Outbox) -> None:
    """A record that no request can carry becomes a dead letter; its neighbours arrive."""
    received = RequestLog(lambda _: Reply(413) if received.sizes[-1] > 100_000 else None)
    outbox.enqueue("a", "b")
    outbox.enqueue("giant", size=200_000)
    outbox.enqueue("c", "d")
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert received.accepted == ["a", "b", "c", "d"]
    assert outbox.dead_letter_reasons() == [("giant", "HTTP 413")]


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_a_real_collectors_limit_is_met(
    collector_binary: Path, outbox: Outbox, protocol: str
) -> None:
    """A Collector that takes little at once gets all in smaller requests, and one giant never."""
    with run_recorder(collector_binary, receiver=_SMALL[protocol]) as backend:
        base = backend.collector.http if protocol == HTTP else f"http://{backend.collector.grpc}"
        url = f"{base}/v1/logs" if protocol == HTTP else base
        endpoint = Endpoint("logs", protocol, url, timeout_s=CLIENT_TIMEOUT_S)
        outbox.enqueue(*uids(100), size=30_000)
        outbox.enqueue("giant", size=1_500_000)
        outbox.enqueue("last")
        with run_exporter(SignalExporter(outbox.store, endpoint, create_transport(endpoint))):
            outbox.wait_until_empty()
        wait_until(
            lambda: len(backend.logs()) == 101, "all are written down", limit=CLIENT_TIMEOUT_S
        )
        names = [log["eventName"] for log in backend.logs()]
    assert sorted(names) == sorted([*uids(100), "last"])
    assert [letter.uid for letter in outbox.dead_letters()] == ["giant"]


def test_what_was_rejected_alone_is_known(outbox: Outbox) -> None:
    """A partial success of one record, or of all, leaves no doubt which it was."""
    received = RequestLog(lambda batch: rejecting(len(batch), "too old"))
    outbox.enqueue("a", "b", "c")
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert received.requests == [["a", "b", "c"]], "a partial success must not be sent again"
    assert outbox.dead_letter_reasons() == [(uid, "rejected: too old") for uid in "abc"]
    assert not any(letter.ambiguous for letter in outbox.dead_letters())


def test_what_was_partly_rejected_is_kept_as_doubtful(outbox: Outbox) -> None:
    """OTLP does not tell which records were rejected, nor may they be sent again to find out.

    All of the request are kept, as perhaps taken. From then on each goes alone, so that
    rejections are exact.
    """
    old = {"b", "e"}
    received = RequestLog(
        lambda batch: rejecting(len(old & set(batch)), "too old") if old & set(batch) else None
    )
    outbox.enqueue("a", "b", "c")
    with (
        Receiver(received) as server,
        run_exporter(make_exporter(outbox.store, server.url)) as running,
    ):
        outbox.wait_until_empty()
        outbox.enqueue("d", "e", "f")
        running.notify()
        outbox.wait_until_empty()
    assert received.requests == [["a", "b", "c"], ["d"], ["e"], ["f"]]
    assert [(letter.uid, letter.ambiguous, letter.reason) for letter in outbox.dead_letters()] == [
        ("a", True, "1 of 3 rejected: too old"),
        ("b", True, "1 of 3 rejected: too old"),
        ("c", True, "1 of 3 rejected: too old"),
        ("e", False, "rejected: too old"),
    ]


def test_doubtful_ones_that_are_sent_again_go_alone(outbox: Outbox) -> None:
    """On request they are sent again, one by one: then it is known which are rejected."""
    received = RequestLog(lambda batch: rejecting(1, "too old") if "b" in batch else None)
    outbox.enqueue("a", "b", "c")
    with Receiver(received) as server:
        with run_exporter(make_exporter(outbox.store, server.url)):
            outbox.wait_until_empty()
        assert (
            outbox.store.resend_dead_letters([letter.id for letter in outbox.dead_letters()]) == 3
        )
        outbox.enqueue("d", "e")
        # Another run of the agent, which knows nothing of the first.
        with run_exporter(make_exporter(outbox.store, server.url)):
            outbox.wait_until_empty()
    assert received.requests[1:] == [["a"], ["b"], ["c"], ["d", "e"]]
    assert [(letter.uid, letter.ambiguous) for letter in outbox.dead_letters()] == [("b", False)]


@pytest.mark.parametrize("rejected", [0, -1])
def test_a_warning_is_no_rejection(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, rejected: int
) -> None:
    """A message of the backend that comes with success is logged, and nothing is set aside."""
    received = RequestLog(lambda _: rejecting(rejected, "use another path"))
    outbox.enqueue("a")
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert outbox.dead_letters() == []
    assert "use another path" in caplog.text
