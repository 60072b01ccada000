"""A backend that can be ill in every way, and remembers what it has taken."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Final

from google.protobuf.message import DecodeError

from otel_oom.export.signals import SIGNALS
from tests.testlib.servers.backend import Backend as Taken
from tests.testlib.servers.backend import Received
from tests.testlib.servers.http_server import HttpServer, Request, http_response

Answer = bytes | Iterable[bytes]


class Backend:
    """An OTLP/HTTP server on one port of loopback: it can go, and come back there."""

    def __init__(self, taken: Taken | None = None) -> None:
        """Be well, and be there; ``taken`` is what another has, to go on with."""
        self.taken = taken or Taken()
        self.mood: Callable[[Request], Answer] = self.well
        self._over = threading.Event()
        self._rubbish = itertools.cycle(_RUBBISH)
        self._server: HttpServer | None = None
        # Bound for as long as we are, so that nobody else gets the port meanwhile.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self._port: int = self._place.getsockname()[1]
        self.come()

    @property
    def url(self) -> str:
        """Where it is, or will be again."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def logs(self) -> list[Received]:
        """The log records it has taken, as often as it has taken them."""
        return self.taken.logs

    @property
    def spans(self) -> list[Received]:
        """The spans likewise."""
        return self.taken.spans

    def come(self) -> None:
        """Listen, on the port it had before."""
        self._over.clear()
        server = HttpServer(self._answer, port=self._port)
        server.__enter__()
        self._server = server

    def go(self) -> None:
        """Hang up and listen no more, as at the death of a process."""
        if self._server:
            self._over.set()
            self._server.__exit__()
            self._server = None

    def close(self) -> None:
        """Go for good."""
        self.go()
        self._place.close()

    def _answer(self, request: Request) -> Answer:
        return self.mood(request)

    def well(self, request: Request) -> bytes:
        """Take it, and say so; what is no OTLP is refused, as by any backend."""
        signal = next((s for s in SIGNALS.values() if s.path == request.target), None)
        if signal is None:
            return http_response(404)
        try:
            decoded = signal.request.FromString(request.body)
        except DecodeError:
            return http_response(400)
        self.taken(decoded)
        return http_response(200, signal.response().SerializeToString())

    def unavailable(self, _: Request) -> bytes:
        """Answer that another time would be better."""
        return http_response(503)

    def refusing(self, _: Request) -> bytes:
        """Answer that it will never do."""
        return http_response(400)

    def silent(self, _: Request) -> bytes:
        """Answer nothing until gone."""
        self._over.wait()
        return b""

    def mad(self, request: Request) -> Answer:
        """Take nothing, and answer what is no answer; or take it, and have the answer cut off."""
        rubbish = next(self._rubbish)
        if rubbish is None:
            self.well(request)
            return b""
        return [rubbish]


_RUBBISH: Final = (
    b"\x00\xff\xfe rubbish \r\n\r\n",
    None,
    b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\ntoo short",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"",
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 15\r\n\r\n<html>oh</html>",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: never\r\nContent-Length: 0\r\n\r\n",
)
"""``None`` stands for: taken, but never said so."""
