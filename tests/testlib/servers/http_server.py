"""A real HTTP server that responds with exactly the bytes of a test."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from typing import Self

from tests.testlib.servers.otlp_request import decode_http
from tests.testlib.telemetry_watch import check_telemetry

CLIENT_TIMEOUT_S = 30.0
"""Seconds after which a server gives up a client, so that a failing test ends too."""


@dataclass(frozen=True)
class Request:
    """A request as it was received."""

    target: str
    headers: Message
    body: bytes


Answer = Callable[[Request], bytes | Iterable[bytes]]
"""The bytes of the response; those of an iterable are sent one by one. After none it hangs up."""


def http_response(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a complete response; ``headers`` have ``_`` for ``-``."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class HttpServer:
    """Listens on loopback in its context, and keeps the requests."""

    def __init__(
        self, answer: Answer | None = None, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        """Respond to each POST by ``answer``, by default with 200, on ``port`` or a free one."""
        self.requests: list[Request] = []
        self.connections = 0
        self.over = threading.Event()
        self._answer = answer or (lambda _: http_response(200))
        self._tls = tls
        self._open: list[socket.socket] = []
        self._server = _Server(("127.0.0.1", port), self._handler())
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """Return a value for ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections, and stop."""
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self.hang_up()
        self._server.server_close()

    @property
    def open(self) -> int:
        """Return the number of open connections."""
        return sum(connection.fileno() >= 0 for connection in self._open)

    def hang_up(self) -> None:
        """Close every connection from this side, as servers do with idle ones."""
        for connection in self._open:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = CLIENT_TIMEOUT_S

            def setup(self) -> None:
                outer.connections += 1
                outer._open.append(self.request)
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request(self.path, self.headers, body)
                outer.requests.append(request)
                check_telemetry(decode_http(self.path, self.headers, body))
                answer = outer._answer(request)
                self.close_connection = not isinstance(answer, bytes) or not answer
                for piece in (answer,) if isinstance(answer, bytes) else answer:
                    self.wfile.write(piece)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # it waits for them at its end

    def handle_error(self, *_: object) -> None:
        """Ignore a client that hung up: that may be what is tested."""


@contextmanager
def silent_server() -> Iterator[str]:
    """Accept connections and never reply; yield host:port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def unreachable_server() -> Iterator[str]:
    """Never accept a connection; yield host:port."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # A queue of length 0 holds one; the kernel leaves the rest without an answer.
        first.connect(address)
        second.setblocking(False)  # noqa: FBT003  the library's own signature
        second.connect_ex(address)
        yield f"127.0.0.1:{address[1]}"
