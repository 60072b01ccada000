"""A small real HTTP proxy, which forwards requests and opens tunnels."""

from __future__ import annotations

import http.client
import http.server
import select
import socket
import threading
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Listens on loopback in its context, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, target and credentials of each request."""
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def address(self) -> str:
        """Return host:port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait until the clients have hung up."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False


def _handler(proxy: Proxy) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _note(self) -> None:
            credentials = self.headers["Proxy-Authorization"]
            proxy.requests.append((self.command, self.path, credentials))

        def do_POST(self) -> None:
            self._note()
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            onward = http.client.HTTPConnection(url.netloc, timeout=10)
            onward.request("POST", url.path, body, dict(self.headers))
            with onward.getresponse() as answer:
                content = answer.read()
            onward.close()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_CONNECT(self) -> None:
            self._note()
            host, _, port = self.path.partition(":")
            with socket.create_connection((host, int(port)), 10) as onward:
                self.send_response(200)
                self.end_headers()
                ends = {onward: self.connection, self.connection: onward}
                while ready := select.select(list(ends), [], [], 30)[0]:
                    for end in ready:
                        data = end.recv(65536)
                        if not data:
                            self.close_connection = True
                            return
                        ends[end].sendall(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
