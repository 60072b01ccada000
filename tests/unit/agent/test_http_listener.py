"""The listener for untrusted peers: what they send, how slowly, and how many there are."""

from __future__ import annotations

import socket
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from otel_oom.agent.metrics import http_listener
from otel_oom.agent.metrics.http_listener import HttpListener, Response

LIMIT_S = 20.0
BODY_BYTES = 1 << 20
BODY = b"x" * BODY_BYTES


def fail() -> Response:
    raise KeyError("no such thing")


@pytest.fixture
def listener() -> Iterator[HttpListener]:
    text = "text/plain"
    routes = {
        "/healthz": lambda: Response(200, text, b"ok\n"),
        "/large": lambda: Response(200, text, BODY),
        "/new": lambda: Response(200, text, bytes(BODY_BYTES)),
        "/broken": fail,
    }
    opened = HttpListener("localhost", 0, routes)
    opened.start()
    yield opened
    opened.stop()


def connect(listener: HttpListener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), LIMIT_S)


def receive(peer: socket.socket) -> bytes:
    """Return all that comes; nothing where the connection was reset."""
    data = b""
    try:
        while part := peer.recv(1 << 16):
            data += part
    except ConnectionResetError:
        pass
    return data


def request(listener: HttpListener, text: bytes) -> bytes:
    with connect(listener) as peer:
        peer.sendall(text)
        return receive(peer)


def is_open(peer: socket.socket) -> bool:
    """Send one more byte; return false once that fails."""
    try:
        peer.sendall(b"G")
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /healthz HTTP/1.1", b"200"),
        (b"GET /healthz?verbose=1 HTTP/1.0", b"200"),
        (b"GET /etc/passwd HTTP/1.1", b"404"),
        (b"GET /healthz/../healthz HTTP/1.1", b"404"),
        (b"POST /healthz HTTP/1.1", b"405"),
        (b"\xff\x00 \xfe", b"405"),
        (b"", b"405"),
        (b"GET /broken HTTP/1.1", b"500"),
    ],
)
def test_each_request_has_one_response(listener: HttpListener, line: bytes, status: bytes) -> None:
    response = request(listener, line + b"\r\nHost: x\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 " + status + b" ")
    head, _, body = response.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head


def test_head_has_no_body(listener: HttpListener) -> None:
    response = request(listener, b"HEAD /large HTTP/1.1\r\n\r\n")
    assert response.endswith(b"\r\n\r\n")
    assert f"Content-Length: {len(BODY)}".encode() in response


def test_a_long_response_comes_whole_to_a_slow_reader(listener: HttpListener) -> None:
    with connect(listener) as peer:
        peer.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        assert request(listener, b"GET /healthz HTTP/1.1\r\n\r\n").endswith(b"ok\n")
        assert receive(peer).endswith(b"\r\n\r\n" + BODY)


def test_a_request_without_end_is_refused(listener: HttpListener) -> None:
    response = request(listener, b"GET /" + b"a" * http_listener._MAX_REQUEST_BYTES)  # noqa: SLF001
    assert response.startswith(b"HTTP/1.1 431 ")


def test_peers_that_say_nothing_keep_no_other_from_its_response(
    listener: HttpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many more than there may be connections; the oldest of them are closed."""
    monkeypatch.setattr(http_listener, "_REQUEST_S", 10 * LIMIT_S)
    silent = [connect(listener) for _ in range(3 * http_listener._MAX_CONNECTIONS)]  # noqa: SLF001
    for peer in silent:
        peer.sendall(b"GET /heal")
    assert request(listener, b"GET /healthz HTTP/1.1\r\n\r\n").endswith(b"ok\n")
    assert receive(silent[0]) == b""
    assert len(listener._connections) <= http_listener._MAX_CONNECTIONS  # noqa: SLF001
    for peer in silent:
        peer.close()


def test_a_peer_that_drips_is_closed_in_time(
    listener: HttpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_listener, "_REQUEST_S", 0.1)
    with connect(listener) as peer:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and is_open(peer):
            time.sleep(0.01)
        assert time.monotonic() < deadline


@pytest.mark.parametrize(("path", "bodies"), [(b"/large", 1), (b"/new", 6)])
def test_memory_does_not_grow_with_peers_that_read_nothing(
    listener: HttpListener, monkeypatch: pytest.MonkeyPatch, path: bytes, bodies: int
) -> None:
    """Neither where they share a body, nor where each has its own."""
    # Less than sockets buffer, so that no body is sent at once.
    monkeypatch.setattr(http_listener, "_CHUNK_BYTES", 1 << 10)
    peers = []
    tracemalloc.start()
    try:
        for _ in range(http_listener._MAX_CONNECTIONS):  # noqa: SLF001
            peer = socket.socket()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 10)
            peer.settimeout(LIMIT_S)
            peer.connect(("127.0.0.1", listener.port))
            peer.sendall(b"GET " + path + b" HTTP/1.1\r\n\r\n")
            assert peer.recv(12) == b"HTTP/1.1 200"
            peers.append(peer)
        assert tracemalloc.get_traced_memory()[1] < bodies * BODY_BYTES
    finally:
        tracemalloc.stop()
        for peer in peers:
            peer.close()


def test_an_occupied_port_is_an_error(listener: HttpListener) -> None:
    with pytest.raises(OSError, match="in use"):
        HttpListener("localhost", listener.port, {})
