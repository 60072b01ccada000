"""OTLP/HTTP when the backend misbehaves: no request hangs, and no incomplete response counts."""

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
    """Return an endpoint for logs."""
    return Endpoint("logs", HTTP, f"{url}/v1/logs", timeout_s=timeout_s)


def send(url: str, timeout_s: float = CLIENT_TIMEOUT_S, body: bytes = b"x") -> ExportResponse:
    """Send once."""
    with closing(HttpTransport(endpoint(url, timeout_s))) as transport:
        return transport.send(body)


Hang = Callable[[], AbstractContextManager[str]]
HANGS = [
    pytest.param("http", silent_server, id="no response"),
    pytest.param("https", silent_server, id="no handshake"),
    pytest.param("http", unreachable_server, id="no connection"),
]


@pytest.mark.parametrize(("scheme", "hang"), HANGS)
def test_a_silent_backend_is_retryable_after_the_timeout(scheme: str, hang: Hang) -> None:
    """In each phase of a request."""
    with hang() as address:
        began = time.monotonic()
        response = send(f"{scheme}://{address}", timeout_s=0.5)
    assert response == ExportResponse(ExportResult.RETRYABLE, "no response within 0.5 s")
    assert 0.4 < time.monotonic() - began < PROMPT_S


@pytest.mark.parametrize(("scheme", "hang"), HANGS)
def test_close_ends_a_hanging_send(scheme: str, hang: Hang) -> None:
    """A transport that another thread closes ends at once, in each phase of a request."""
    with hang() as address:
        assert_close_ends_send(HttpTransport(endpoint(f"{scheme}://{address}")))


def test_close_is_never_overlooked() -> None:
    with silent_server() as address, ThreadPoolExecutor(1) as pool:
        for step in range(100):
            transport = HttpTransport(endpoint(f"http://{address}"))
            under_way = pool.submit(transport.send, b"x")
            time.sleep(step * 0.000_02)  # not a wait: it moves through the phases
            transport.close()
            assert under_way.result(CLIENT_TIMEOUT_S).result is ExportResult.RETRYABLE


def test_a_closed_transport_sends_nothing() -> None:
    """After close() it does not connect any more, and reports ``RETRYABLE``."""
    with HttpServer() as server:
        transport = HttpTransport(endpoint(server.url))
        assert transport.send(b"x").result is ExportResult.ACCEPTED
        transport.close()
        transport.close()
        assert transport.send(b"x").result is ExportResult.RETRYABLE
    assert len(server.requests) == 1


def trickle(over: threading.Event, piece: bytes) -> Iterator[bytes]:
    """Yield one byte at a time, each in time, for longer than any test waits."""
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
def test_the_timeout_is_for_the_whole_response(head: bytes) -> None:
    """Not for each of its bytes."""
    over = threading.Event()
    with HttpServer(lambda _: itertools.chain([head], trickle(over, b"1"))) as server:
        began = time.monotonic()
        response = send(server.url, timeout_s=0.5)
        over.set()
    assert response == ExportResponse(ExportResult.RETRYABLE, "no response within 0.5 s")
    assert time.monotonic() - began < PROMPT_S


def endless(head: bytes, piece: bytes) -> Iterator[bytes]:
    """Yield as fast as it is read, until the client hangs up."""
    yield head
    while True:
        yield piece


@pytest.mark.parametrize(
    ("head", "piece", "result"),
    [
        (b"HTTP/1.1 400 Bad\r\n\r\n", b"x" * 65536, ExportResult.REJECTED),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n",
            b"x" * 65536,
            ExportResult.ACCEPTED,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n",
            b"x" * 65536,
            ExportResult.ACCEPTED,
        ),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536, ExportResult.RETRYABLE),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000, ExportResult.RETRYABLE),
    ],
    ids=["rejection", "success", "announced", "header", "headers"],
)
def test_an_endless_response_is_cut(head: bytes, piece: bytes, result: ExportResult) -> None:
    """A limited part of it counts, and the connection is closed."""
    with HttpServer(lambda _: endless(head, piece)) as server:
        response = send(server.url)
    assert response.result is result
    assert len(response.reason) < 1000


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
def test_a_truncated_response_is_retryable(answer: bytes) -> None:
    """Without a complete response nothing is known, not even what a 200 rejected."""
    with HttpServer(lambda _: [answer]) as server:
        response = send(server.url)
    assert response.result is ExportResult.RETRYABLE
    assert response.reason


def test_a_rejection_counts_although_the_request_was_not_read() -> None:
    """A server that sends 413 and closes without reading gets no endless retries."""

    def serve(listener: socket.socket) -> None:
        connection = listener.accept()[0]
        with connection:
            connection.recv(100)
            connection.sendall(http_response(413, b"too large", Connection="close"))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve, listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        response = send(url, body=b"x" * (8 << 20))
        served.result(CLIENT_TIMEOUT_S)
    assert response == ExportResponse(ExportResult.TOO_LARGE, "HTTP 413: too large")


def test_a_refused_connection_is_retryable() -> None:
    response = send(f"http://127.0.0.1:{free_port()}")
    assert response.result is ExportResult.RETRYABLE
    assert "refused" in response.reason


def test_a_name_without_an_address_is_retryable() -> None:
    response = send("http://collector.invalid:4318", timeout_s=5)
    assert response.result is ExportResult.RETRYABLE
    assert response.reason


def test_the_request_after_a_failure_has_a_new_connection() -> None:
    answers: Iterator[list[bytes] | bytes] = iter(
        [[b"HTTP/1.1 200 OK\r\nContent-"], http_response(200)]
    )

    def answer(_: Request) -> list[bytes] | bytes:
        return next(answers)

    with (
        HttpServer(answer) as server,
        closing(HttpTransport(endpoint(server.url))) as transport,
    ):
        results = [transport.send(b"x").result for _ in range(2)]
    assert results == [ExportResult.RETRYABLE, ExportResult.ACCEPTED]
