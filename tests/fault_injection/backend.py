"""A backend that can fail in every way, and keeps the telemetry that it accepted."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Final

from google.protobuf.message import DecodeError

from otel_oom.export.signals import SIGNALS
from tests.testlib.servers.backend import Backend, Received
from tests.testlib.servers.http_server import HttpServer, Request, http_response

Answer = bytes | Iterable[bytes]


class FaultyBackend:
    """An OTLP/HTTP server on one port of loopback, which can stop and start again there."""

    def __init__(self, received: Backend | None = None) -> None:
        """Start, and accept everything; ``received`` is that of another backend, to go on with."""
        self.received = received or Backend()
        self.behavior: Callable[[Request], Answer] = self.accept
        self._over = threading.Event()
        self._rubbish = itertools.cycle(_GARBAGE)
        self._server: HttpServer | None = None
        # Bound all the time, so that no other process gets the port.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))
        self._port: int = self._reservation.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        """Return its URL, which stays the same."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def logs(self) -> list[Received]:
        """Return the accepted log records, with duplicates."""
        return self.received.logs

    @property
    def spans(self) -> list[Received]:
        """Return the accepted spans, with duplicates."""
        return self.received.spans

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._over.clear()
        server = HttpServer(self._answer, port=self._port)
        server.__enter__()
        self._server = server

    def stop(self) -> None:
        """Close all connections and the port, as the death of a process does."""
        if self._server:
            self._over.set()
            self._server.__exit__()
            self._server = None

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._reservation.close()

    def _answer(self, request: Request) -> Answer:
        return self.behavior(request)

    def accept(self, request: Request) -> bytes:
        """Accept a request; reject what is not OTLP, as any backend does."""
        signal = next((s for s in SIGNALS.values() if s.path == request.target), None)
        if signal is None:
            return http_response(404)
        try:
            decoded = signal.request.FromString(request.body)
        except DecodeError:
            return http_response(400)
        self.received(decoded)
        return http_response(200, signal.response().SerializeToString())

    def respond_unavailable(self, _: Request) -> bytes:
        """Respond 503."""
        return http_response(503)

    def reject(self, _: Request) -> bytes:
        """Respond 400, which is final."""
        return http_response(400)

    def stay_silent(self, _: Request) -> bytes:
        """Respond nothing until stopped."""
        self._over.wait()
        return b""

    def misbehave(self, request: Request) -> Answer:
        """Reject a request by garbage; or accept it and disconnect."""
        rubbish = next(self._rubbish)
        if rubbish is None:
            self.accept(request)
            return b""
        return [rubbish]


_GARBAGE: Final = (
    b"\x00\xff\xfe rubbish \r\n\r\n",
    None,
    b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\ntoo short",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>oh</html>",
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 15\r\n\r\n<html>oh</html>",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: never\r\nContent-Length: 0\r\n\r\n",
)
"""``None``: accepted without a response."""
