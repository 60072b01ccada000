"""An OTLP/HTTP backend in this process: the real protocol, and nothing to install."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Callable
from typing import Final, Self

from google.protobuf.message import Message
from msgspec import Struct

from otel_oom.export.signals import SIGNALS

_MAX_BYTES: Final = 64 << 20
_IDLE_S: Final = 30
_POLL_S: Final = 0.05
"""How long its end may take."""


class Reply(Struct, frozen=True):
    """A response other than success."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Receiver:
    """A server on the loopback interface or on ``host``, while its context is entered.

    ``on_request`` gets each decoded request and returns the response: ``None`` for success.
    """

    def __init__(
        self,
        on_request: Callable[[Message], Reply | None],
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self._server = http.server.ThreadingHTTPServer((host, port), _handler(on_request))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), daemon=True
        )

    @property
    def url(self) -> str:
        """The value of ``OTEL_EXPORTER_OTLP_ENDPOINT`` that sends here."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(
    on_request: Callable[[Message], Reply | None],
) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_S

        def do_POST(self) -> None:
            signal = next((s for s in SIGNALS.values() if s.path == self.path), None)
            length = int(self.headers.get("Content-Length", 0))
            if signal is None or length > _MAX_BYTES:
                self.close_connection = True
                self._reply(Reply(404 if signal is None else 413))
                return
            data = self.rfile.read(length)
            if self.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            reply = on_request(signal.request.FromString(data))
            self._reply(reply or Reply(200, body=signal.response().SerializeToString()))

        def _reply(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Log nothing: the screen belongs to the demonstration."""

    return Handler
