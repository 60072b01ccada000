"""A small real HTTP/2 server that responds with any headers, as a proxy or portal does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

_PREFACE_BYTES = 24
_HEAD_BYTES = 9
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_STREAM = _ACK = 1
_END_HEADERS = 4

Headers = Sequence[tuple[str, str]]


class Http2Server:
    """Listens on loopback in its context, and answers the first request (RFC 9113)."""

    def __init__(self, headers: Headers, body: bytes, trailers: Headers = ()) -> None:
        """Respond with ``headers``, ``body`` and ``trailers``."""
        self._response = (headers, body, trailers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> str:
        """Return host:port."""
        self._thread.start()
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        """Wait until the client has hung up."""
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        connection = self._listener.accept()[0]
        with connection, connection.makefile("rb") as stream:
            connection.sendall(_frame(_SETTINGS, 0, 0, b""))
            stream.read(_PREFACE_BYTES)
            while head := stream.read(_HEAD_BYTES):
                kind, flags, number = head[3], head[4], int.from_bytes(head[5:])
                stream.read(int.from_bytes(head[:3]))
                if kind == _SETTINGS and not flags & _ACK:
                    connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
                if kind == _DATA and flags & _END_STREAM:
                    connection.sendall(self._respond(number))

    def _respond(self, number: int) -> bytes:
        headers, body, trailers = self._response
        frames = _frame(_HEADERS, _END_HEADERS, number, _encode(headers))
        if not trailers:
            return frames + _frame(_DATA, _END_STREAM, number, body)
        end = _frame(_HEADERS, _END_HEADERS | _END_STREAM, number, _encode(trailers))
        return frames + _frame(_DATA, 0, number, body) + end


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + number.to_bytes(4) + payload


def _encode(headers: Headers) -> bytes:
    """Encode headers literally, without an index (RFC 7541, section 6.2.2)."""
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers
    )


@contextmanager
def goaway_server(text: bytes) -> Iterator[str]:
    """Hang up on each client with ``text``; yield host:port."""

    def run() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with connection, suppress(OSError):
                connection.sendall(_frame(_SETTINGS, 0, 0, b""))
                connection.recv(_PREFACE_BYTES)
                connection.sendall(_frame(_GOAWAY, 0, 0, bytes([0, 0, 0, 0, 0, 0, 0, 2]) + text))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
