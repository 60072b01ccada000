"""A backend, proxy or network that wants to hold the exporter up, fill its memory or its log."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from otel_oom.config.endpoint import HTTP, Endpoint
from otel_oom.export.exporter import create_transport
from otel_oom.export.result import ExportResponse, ExportResult
from tests.testlib.command import run_otel_oom
from tests.testlib.servers.http2_server import goaway_server
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S, HttpServer


def send(url: str, timeout_s: float = CLIENT_TIMEOUT_S) -> ExportResponse:
    """Send once."""
    endpoint = Endpoint("logs", HTTP, f"{url}/v1/logs", timeout_s=timeout_s)
    with closing(create_transport(endpoint)) as transport:
        return transport.send(b"x")


@contextmanager
def serve(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Accept one connection and ``talk`` to it; yield host:port."""

    def run() -> None:
        connection = listener.accept()[0]
        with connection, suppress(OSError):
            talk(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    ],
    ids=["interim responses", "trailers"],
)
def test_what_the_client_skips_is_bounded(head: bytes, piece: bytes) -> None:
    """It is read up to a number of bytes, not for the whole timeout."""
    pieces = itertools.chain([head], itertools.repeat(piece * 1000))
    with HttpServer(lambda _: pieces) as server:
        response = send(server.url)
    assert response.result is ExportResult.RETRYABLE
    assert response.reason == "the response is longer than 1048576 bytes"


def drip(connection: socket.socket) -> None:
    """Open a tunnel whose headers never end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n")
        time.sleep(0.02)


def flood(connection: socket.socket) -> None:
    """Open a tunnel whose headers never end, as fast as they are read."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: " + b"y" * 50_000 + b"\r\n")


@pytest.mark.parametrize(
    ("talk", "reason"),
    [(drip, "no response within 0.5 s"), (flood, "the response is longer than 1048576 bytes")],
)
def test_a_tunnel_is_bounded(
    talk: Callable[[socket.socket], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout is for the whole, and the number of bytes too."""
    with serve(talk) as address:
        monkeypatch.setenv("https_proxy", f"http://{address}")
        response = send("https://collector.invalid", 0.5 if talk is drip else CLIENT_TIMEOUT_S)
    assert response == ExportResponse(ExportResult.RETRYABLE, reason)


@pytest.mark.slow
def test_a_grpc_server_writes_nothing_to_stderr() -> None:
    """What it says as it hangs up would be lines of the agent's log."""
    with goaway_server(b"bye\notel-oom: forged") as address:
        env = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_METRICS_EXPORTER": "none"}
        done = run_otel_oom(
            "doctor", env={**env, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}"}
        )
    assert "logs endpoint" in done.out
    assert done.err == ""
    assert "\notel-oom: forged" not in done.out
