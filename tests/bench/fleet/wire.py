"""The size of what a host sends, as a server receives it."""

from __future__ import annotations

import socket
import threading
import time

from msgspec import Struct

from otel_oom.config.endpoint import HTTP, Endpoint
from otel_oom.export.http import HttpTransport
from tests.bench.fleet.recording import Recording
from tests.testlib.process import LOOPBACK


class Wire(Struct, frozen=True):
    """Bytes of an HTTP request with its headers."""

    log: int
    span: int
    metrics: int


def measure_wire(*, gzip: bool) -> Wire:
    """Count the bytes of requests of a host, as a server gets them."""
    recording, now = Recording(), time.time_ns()
    kill = recording.encode_kill(0, 0, now)
    return Wire(
        log=count_request_bytes("logs", kill.messages["logs"], gzip=gzip),
        span=count_request_bytes("traces", kill.messages["traces"], gzip=gzip),
        metrics=count_request_bytes("metrics", recording.encode_metrics(0, now), gzip=gzip),
    )


def count_request_bytes(signal: str, body: bytes, *, gzip: bool) -> int:
    """Send a message to a server that counts all bytes of the request."""
    received = bytearray()

    def serve() -> None:
        with server.accept()[0] as connection:
            while not _is_whole(received):
                received.extend(connection.recv(1 << 16))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server((LOOPBACK, 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://{LOOPBACK}:{server.getsockname()[1]}/v1/{signal}"
        transport = HttpTransport(Endpoint(signal, HTTP, url, gzip=gzip))
        transport.send(body)
        transport.close()
        thread.join()
    return len(received)


def _is_whole(received: bytearray) -> bool:
    head, end, body = bytes(received).partition(b"\r\n\r\n")
    lengths = [
        int(line.partition(b":")[2])
        for line in head.lower().splitlines()
        if line.startswith(b"content-length:")
    ]
    return bool(end) and len(body) == lengths[0]
