"""A network between client and server, which a test can read and cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self


class Relay:
    """Relays TCP connections to a server on loopback in its context."""

    def __init__(self, port: int) -> None:
        """Relay to ``port``."""
        self.sent = b""
        """What clients have sent so far."""
        self.connections = 0
        self._port = port
        self._dead: set[int] = set()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def address(self) -> str:
        """Return host:port for clients."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        for end in [self._listener, *self._ends]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in [self._listener, *self._ends]:
            end.close()

    def go_dead(self) -> None:
        """Drop all data of today's connections, as a firewall that has forgotten them does."""
        self._dead.update(range(self.connections))

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                self._ends.append(near)
                far = socket.create_connection(("127.0.0.1", self._port))
                self._ends.append(far)
                number = self.connections
                self.connections += 1
                self._start(self._pump, near, far, number)
                self._start(self._pump, far, near, number)

    def _pump(self, source: socket.socket, sink: socket.socket, number: int) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source is self._ends[2 * number]:
                    self.sent += data
                if number not in self._dead:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
