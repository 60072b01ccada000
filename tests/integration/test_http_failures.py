"""OTLP/HTTP when the backend misbehaves: nothing hangs, nothing is believed that was not said."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing

import pytest

from otel_oom.config.endpoint import HTTP, Endpoint
from otel_oom.export.http import HttpTransport
from otel_oom.export.result import ExportResponse, ExportResult
from tests.testlib.process import free_port
from tests.testlib.servers.closing import assert_close_ends_send
from tests.testlib.servers.http_server import (
    CLIENT_TIMEOUT_S,
    HttpServer,
    Request,
    http_response,
    silent_server,
    unreachable_server,
)

PROMPT_S = 5.0
"""What counts as at once on a busy machine; far below the limits of what is ended."""


def endpoint(url: str, timeout_s: float = CLIENT_TIMEOUT_S) -> Endpoint:
    """A place for logs."""
    return Endpoint("logs", HTTP, f"{url}/v1/logs", timeout_s=timeout_s)


def send(url: str, timeout_s: float = CLIENT_TIMEOUT_S, body: bytes = b"x") -> ExportResponse:
    """Send once."""
    with closing(HttpTransport(endpoint(url, timeout_s))) as transport:
        return transport.send(body)


Hang = Callable[[], AbstractContextManager[str]]
PLACES = [
    pytest.param("http", silent_server, id="no answer"),
    pytest.param("https", silent_server, id="no handshake"),
    pytest.param("http", unreachable_server, id="no connection"),
]


@pytest.mark.parametrize(("scheme", "place"), PLACES)
def test_a_backend_that_does_not_answer_is_given_up(scheme: str, place: Hang) -> None:
    """A try ends after the timeout, whatever the backend leaves out, and is to be made again."""
    with place() as address:
        began = time.monotonic()
        answer = send(f"{scheme}://{address}", timeout_s=0.5)
    assert answer == ExportResponse(ExportResult.RETRYABLE, "no response within 0.5 s")
    assert 0.4 < time.monotonic() - began < PROMPT_S


@pytest.mark.parametrize(("scheme", "place"), PLACES)
def test_close_ends_a_hanging_send(scheme: str, place: Hang) -> None:
    """A transport that another thread closes gives up at once, in every phase of a request."""
    with place() as address:
        assert_close_ends_send(HttpTransport(endpoint(f"{scheme}://{address}")))


def test_close_ends_a_send_whenever_it_comes() -> None:
    """There is no moment in a request at which closing the transport is overlooked."""
    with silent_server() as address, ThreadPoolExecutor(1) as pool:
        for step in range(100):
            transport = HttpTransport(endpoint(f"http://{address}"))
            under_way = pool.submit(transport.send, b"x")
            time.sleep(step * 0.000_02)  # not a wait: it moves through the phases
            transport.close()
            assert under_way.result(CLIENT_TIMEOUT_S).result is ExportResult.RETRYABLE


def test_a_closed_transport_sends_nothing() -> None:
    """After close() a send connects no more, and says later."""
    with HttpServer() as server:
        transport = HttpTransport(endpoint(server.url))
        assert transport.send(b"x").result is ExportResult.ACCEPTED
        transport.close()
        transport.close()
        assert transport.send(b"x").result is ExportResult.RETRYABLE
    assert len(server.requests) == 1


def trickle(over: threading.Event, piece: bytes) -> Iterator[bytes]:
    """One byte at a time, each well in time, for longer than any test waits."""
    for _ in range(20 * int(PROMPT_S)):
        yield piece
        if over.wait(0.05):
            return


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["status", "header", "body", "chunks", "body without end"],
)
def test_an_answer_that_trickles_in_is_given_up(head: bytes) -> None:
    """The timeout is for the whole answer, not for each of its bytes."""
    over = threading.Event()
    with HttpServer(lambda _: itertools.chain([head], trickle(over, b"1"))) as server:
        began = time.monotonic()
        answer = send(server.url, timeout_s=0.5)
        over.set()
    assert answer == ExportResponse(ExportResult.RETRYABLE, "no response within 0.5 s")
    assert time.monotonic() - began < PROMPT_S


def endless(head: bytes, piece: bytes) -> Iterator[bytes]:
    """As fast as it is read, until the client hangs up."""
    yield head
    while True:
        yield piece


@pytest.mark.parametrize(
    ("head", "piece", "verdict"),
    [
        (b"HTTP/1.1 400 Bad\r\n\r\n", b"x" * 65536, ExportResult.REJECTED),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, ExportResult.ACCEPTED),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n",
            b"x" * 65536,
            ExportResult.ACCEPTED,
        ),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536, ExportResult.RETRYABLE),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000, ExportResult.RETRYABLE),
    ],
    ids=["refusal", "success", "announced", "header", "headers"],
)
def test_an_answer_without_end_is_cut(head: bytes, piece: bytes, verdict: ExportResult) -> None:
    """Of an answer a bounded part is read: what came is judged, and the connection given up."""
    with HttpServer(lambda _: endless(head, piece)) as server:
        answer = send(server.url)
    assert answer.result is verdict
    assert len(answer.reason) < 1000


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
    ids=["none", "head", "no body", "body", "chunk", "another protocol"],
)
def test_an_answer_that_is_cut_short_is_none(answer: bytes) -> None:
    """Without a complete answer nothing is known, not even what a 200 rejected: send again."""
    with HttpServer(lambda _: [answer]) as server:
        said = send(server.url)
    assert said.result is ExportResult.RETRYABLE
    assert said.reason


def test_a_refusal_counts_though_the_request_was_not_read() -> None:
    """A server that answers 413 and hangs up without reading is believed: no endless retry."""

    def serve(listener: socket.socket) -> None:
        connection = listener.accept()[0]
        with connection:
            connection.recv(100)
            connection.sendall(http_response(413, b"too large", Connection="close"))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve, listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        answer = send(url, body=b"x" * (8 << 20))
        served.result(CLIENT_TIMEOUT_S)
    assert answer == ExportResponse(ExportResult.TOO_LARGE, "HTTP 413: too large")


def test_a_server_that_is_not_there() -> None:
    """A refused connection means later, in words that tell it."""
    answer = send(f"http://127.0.0.1:{free_port()}")
    assert answer.result is ExportResult.RETRYABLE
    assert "refused" in answer.reason


def test_a_name_that_does_not_resolve() -> None:
    """A name without an address means later: names come back."""
    answer = send("http://collector.invalid:4318", timeout_s=5)
    assert answer.result is ExportResult.RETRYABLE
    assert answer.reason


def test_a_failed_try_is_followed_by_a_good_one() -> None:
    """The request after a failure begins anew, on a connection of its own."""
    answers: Iterator[list[bytes] | bytes] = iter(
        [[b"HTTP/1.1 200 OK\r\nContent-"], http_response(200)]
    )

    def answer(_: Request) -> list[bytes] | bytes:
        return next(answers)

    with (
        HttpServer(answer) as server,
        closing(HttpTransport(endpoint(server.url))) as transport,
    ):
        verdicts = [transport.send(b"x").result for _ in range(2)]
    assert verdicts == [ExportResult.RETRYABLE, ExportResult.ACCEPTED]
