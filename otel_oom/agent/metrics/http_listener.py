"""A small HTTP server for untrusted peers: GET of fixed paths, in one thread that waits for none.

Each connection has one short request, little time and no body. A peer that is slow or says nothing
keeps no other from its response; of too many, the oldest are closed. Responses share the bytes of
a body, and few bodies are being sent at a time, so memory does not grow with the number of peers.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from msgspec import Struct

_LOG = logging.getLogger(__name__)

_MAX_CONNECTIONS: Final = 32
_MAX_BODIES: Final = 4
"""Bodies that are being sent. A new one each second leaves a reader three seconds at least."""
_BACKLOG: Final = 128
_MAX_REQUEST_BYTES: Final = 8 << 10
_REQUEST_S: Final = 2.0
_RESPONSE_S: Final = 10.0
_CHUNK_BYTES: Final = 64 << 10
_END: Final = b"\r\n\r\n"
_PAUSE_S: Final = 0.1


class Response(Struct, frozen=True):
    """The response to a request."""

    status: int
    content_type: str
    body: bytes


Routes = Mapping[str, Callable[[], Response]]


class _Connection:
    def __init__(self, peer: socket.socket) -> None:
        self.socket = peer
        self.request = bytearray()
        self.head = b""
        self.body = memoryview(b"")
        self.deadline = time.monotonic() + _REQUEST_S

    @property
    def is_sending(self) -> bool:
        return bool(self.head or self.body)

    def send(self) -> None:
        sent = self.socket.sendmsg([self.head, self.body[:_CHUNK_BYTES]])
        self.body = self.body[max(sent - len(self.head), 0) :]
        self.head = self.head[sent:]


class HttpListener:
    """Server of ``routes``, which run in its thread."""

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        """Bind. Raises OSError."""
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self._server = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        self._server.setblocking(False)  # noqa: FBT003  its own signature
        self.port: Final = int(self._server.getsockname()[1])
        self._routes = routes
        self._connections: dict[int, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrape", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Close all connections, and end the thread."""
        self._stop.set()
        # Wakes the selector.
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(_REQUEST_S)

    def _run(self) -> None:
        with self._server, self._selector:
            while not self._stop.is_set():
                now = time.monotonic()
                for connection in list(self._connections.values()):
                    if now > connection.deadline:
                        self._close(connection)
                deadlines = (each.deadline - now for each in self._connections.values())
                for key, _ in self._selector.select(min(deadlines, default=None)):
                    if key.data is None:
                        self._accept()
                    elif isinstance(key.data, _Connection) and key.fd in self._connections:
                        self._proceed(key.data)
            for connection in list(self._connections.values()):
                self._close(connection)

    def _accept(self) -> None:
        try:
            peer, _ = self._server.accept()
        except BlockingIOError:
            return
        except OSError:
            # Without descriptors, say: the peer waits, and must not make this a busy loop.
            self._stop.wait(_PAUSE_S)
            return
        if len(self._connections) >= _MAX_CONNECTIONS:
            self._close(next(iter(self._connections.values())))
        peer.setblocking(False)  # noqa: FBT003  likewise
        connection = _Connection(peer)
        self._connections[peer.fileno()] = connection
        self._selector.register(peer, selectors.EVENT_READ, connection)

    def _proceed(self, connection: _Connection) -> None:
        try:
            if not connection.is_sending:
                self._receive(connection)
            if connection.is_sending:
                connection.send()
                if not connection.is_sending:
                    self._close(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)

    def _receive(self, connection: _Connection) -> None:
        data = connection.socket.recv(_MAX_REQUEST_BYTES)
        if not data:
            self._close(connection)
            return
        connection.request += data
        if _END in connection.request or len(connection.request) > _MAX_REQUEST_BYTES:
            connection.head, body = self._respond(bytes(connection.request))
            connection.body = memoryview(body)
            connection.deadline = time.monotonic() + _RESPONSE_S
            self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
            self._close_oldest_bodies()

    def _close_oldest_bodies(self) -> None:
        sending = [each for each in self._connections.values() if each.body]
        sending.sort(key=lambda each: each.deadline)
        bodies = list(dict.fromkeys(id(each.body.obj) for each in sending))
        for connection in sending:
            if id(connection.body.obj) in bodies[:-_MAX_BODIES]:
                self._close(connection)

    def _respond(self, request: bytes) -> tuple[bytes, bytes]:
        method, _, rest = request.partition(b"\r\n")[0].decode("ascii", "replace").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if _END not in request:
            response = _error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif method not in {"GET", "HEAD"}:
            response = _error(HTTPStatus.METHOD_NOT_ALLOWED)
        elif path not in self._routes:
            response = _error(HTTPStatus.NOT_FOUND)
        else:
            try:
                response = self._routes[path]()
            except Exception:  # noqa: BLE001  a request must not end the thread
                _LOG.exception("Metrics: a request of %s failed", path)
                response = _error(HTTPStatus.INTERNAL_SERVER_ERROR)
        head = (
            f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
            f"Content-Type: {response.content_type}\r\n"
            f"Content-Length: {len(response.body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode(), b"" if method == "HEAD" else response.body

    def _close(self, connection: _Connection) -> None:
        self._connections.pop(connection.socket.fileno(), None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.socket.close()


def _error(status: HTTPStatus) -> Response:
    return Response(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode())
