"""Rejected messages: none delays another, and each is kept.

Requests are counted: a rejection must not cost one request for each message.
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
    """Return uids of so many messages."""
    return [f"kill-{number}" for number in range(count)]


def partial_success(rejected: int, words: str) -> Reply:
    """Return a success except for ``rejected`` records (OTLP/HTTP Response, Partial Success)."""
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = words
    return Reply(200, body=response.SerializeToString())


@pytest.mark.parametrize("index", [0, 333, 511])
def test_one_rejected_record_is_isolated_by_bisection(outbox: Outbox, index: int) -> None:
    """It becomes a dead letter; the others arrive once: of 512 messages in 1 + 2 * 9 requests."""
    sent = uids(512)
    poison = sent[index]
    received = RequestLog(lambda batch: Reply(400, body=b"cannot") if poison in batch else None)
    outbox.enqueue(*sent)
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert received.accepted == [uid for uid in sent if uid != poison]
    assert outbox.dead_letter_reasons() == [(poison, "HTTP 400: cannot")]
    assert len(received.requests) <= 1 + 2 * 9


def test_a_dead_letter_names_signal_endpoint_and_reason(outbox: Outbox) -> None:
    """The endpoint has no more than scheme, host and port."""
    outbox.enqueue("a", signal="traces")
    with Receiver(RequestLog(lambda _: Reply(400, body=b"cannot"))) as server:
        url = f"{server.url}/v1/traces"
        endpoint = Endpoint("traces", HTTP, f"{url}?token=secret", timeout_s=CLIENT_TIMEOUT_S)
        plain = Endpoint("traces", HTTP, url, timeout_s=CLIENT_TIMEOUT_S)
        with run_exporter(SignalExporter(outbox.store, endpoint, create_transport(plain))):
            outbox.wait_until_empty()
    (letter,) = outbox.dead_letters()
    assert (letter.uid, letter.channel, letter.endpoint) == ("a", "traces", server.url)
    assert (letter.reason, letter.ambiguous) == ("HTTP 400: cannot", False)
    assert letter.size > 0
    assert letter.rejected_unix_ns > 0


def test_an_outage_during_bisection(outbox: Outbox) -> None:
    """If the backend fails meanwhile, the rest is bisected later."""
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


def test_a_backend_that_rejects_all_gets_two_requests_for_each_at_most(outbox: Outbox) -> None:
    received = RequestLog(lambda _: Reply(400))
    outbox.enqueue(*uids(64))
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert len(received.requests) < 2 * 64
    assert [letter.uid for letter in outbox.dead_letters()] == uids(64)


@pytest.mark.parametrize("status", [302, 401, 404])
def test_a_misconfigured_endpoint_gets_one_request(outbox: Outbox, status: int) -> None:
    """All messages are kept."""
    received = RequestLog(lambda _: Reply(status))
    outbox.enqueue(*uids(64))
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert len(received.requests) == 1
    assert [letter.uid for letter in outbox.dead_letters()] == uids(64)
    assert not any(letter.ambiguous for letter in outbox.dead_letters())


def test_a_request_that_is_too_large_is_split_and_the_limit_remembered(outbox: Outbox) -> None:
    """After 413 all requests stay below the size that was too large."""
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


def test_a_message_that_is_too_large_alone_becomes_a_dead_letter(outbox: Outbox) -> None:
    """Its neighbours arrive."""
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
    """A Collector with a low limit gets all in smaller requests, except for one giant message."""
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


def test_a_partial_success_of_one_or_of_all_is_exact(outbox: Outbox) -> None:
    received = RequestLog(lambda batch: partial_success(len(batch), "too old"))
    outbox.enqueue("a", "b", "c")
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert received.requests == [["a", "b", "c"]], "a partial success must not be sent again"
    assert outbox.dead_letter_reasons() == [(uid, "rejected: too old") for uid in "abc"]
    assert not any(letter.ambiguous for letter in outbox.dead_letters())


def test_a_partly_rejected_request_becomes_ambiguous_dead_letters(outbox: Outbox) -> None:
    """OTLP does not say which records were rejected, and they must not be sent again to find out.

    All of the request are kept. From then on each is sent alone, so that rejections are exact.
    """
    old = {"b", "e"}
    received = RequestLog(
        lambda batch: (
            partial_success(len(old & set(batch)), "too old") if old & set(batch) else None
        )
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


def test_ambiguous_dead_letters_are_resent_alone(outbox: Outbox) -> None:
    """Then it is known which are rejected."""
    received = RequestLog(lambda batch: partial_success(1, "too old") if "b" in batch else None)
    outbox.enqueue("a", "b", "c")
    with Receiver(received) as server:
        with run_exporter(make_exporter(outbox.store, server.url)):
            outbox.wait_until_empty()
        assert (
            outbox.store.dead_letters.resend([letter.id for letter in outbox.dead_letters()]) == 3
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
    """A message that comes with success is logged, and nothing becomes a dead letter."""
    received = RequestLog(lambda _: partial_success(rejected, "use another path"))
    outbox.enqueue("a")
    with Receiver(received) as server, run_exporter(make_exporter(outbox.store, server.url)):
        outbox.wait_until_empty()
    assert outbox.dead_letters() == []
    assert "use another path" in caplog.text
