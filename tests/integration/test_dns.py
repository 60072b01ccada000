"""A host name that can't be resolved: a real resolver, and a name server that misbehaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from otel_oom.config.endpoint import GRPC, HTTP
from tests.testlib.command import clean_environ
from tests.testlib.servers.dns import NAME, NameServer
from tests.testlib.servers.grpc_server import GrpcServer
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S, HttpServer

pytestmark = pytest.mark.root

TIMEOUT_S = 1.0
PROMPT_S = 5.0

_SENDER = """
import json, sys, threading, time
from contextlib import closing
from otel_oom.export.exporter import create_transport
from otel_oom.config.endpoint import Endpoint

protocol, url, timeout = sys.argv[1:]
endpoint = Endpoint("logs", protocol, url, timeout_s=float(timeout))
with closing(create_transport(endpoint)) as transport:
    for line in sys.stdin:
        if line == "close soon\\n":
            threading.Timer(0.5, transport.close).start()
        began = time.monotonic()
        response = transport.send(b"x")
        said = [response.result.name, response.reason, time.monotonic() - began]
        print(json.dumps([*said, threading.active_count()]), flush=True)
"""
"""Sends once for each line that it reads, and prints the answer and how long it took."""


class Sender:
    """A process that sends on request, and queries no name server but the test's."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            command,
            env=clean_environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, how: str = "send") -> tuple[str, str, float, int]:
        """Return result, reason, seconds, and the number of threads afterwards."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{how}\n")
        self._process.stdin.flush()
        result, reason, seconds, threads = json.loads(self._process.stdout.readline())
        return result, reason, seconds, threads

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def names() -> Iterator[NameServer]:
    """Run a name server that is silent at first."""
    with NameServer() as server:
        yield server


def sender(
    names: NameServer, folder: Path, protocol: str, port: int, timeout_s: float = TIMEOUT_S
) -> Sender:
    """Send to a host of that name."""
    url = f"http://{NAME}:{port}"
    command = [sys.executable, "-c", _SENDER, protocol, url, str(timeout_s)]
    return Sender([*names.mounts(folder), *command])


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_a_silent_name_server_is_retryable_after_the_timeout(
    names: NameServer, tmp_path: Path, protocol: str
) -> None:
    """The query is part of the request: it ends with its timeout, not with the resolver's own."""
    with sender(names, tmp_path, protocol, 4318) as running:
        result, reason, seconds, threads = running.send()
        assert names.questions > 0
        assert result == "RETRYABLE"
        assert reason
        assert seconds < PROMPT_S
        # Another try does not add another look-up that hangs.
        assert running.send()[3] <= threads


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_a_name_that_failed_is_queried_again(
    names: NameServer, tmp_path: Path, protocol: str
) -> None:
    names.mode = "failing"
    with HttpServer() as http, GrpcServer() as grpc:
        port = int(http.url.rpartition(":")[2]) if protocol == HTTP else grpc.port
        with sender(names, tmp_path, protocol, port, timeout_s=CLIENT_TIMEOUT_S) as running:
            result, reason, *_ = running.send()
            assert result == "RETRYABLE"
            assert NAME in reason or "resolution" in reason
            names.mode = "answering"
            assert running.send()[0] == "ACCEPTED"


def test_close_ends_a_query(names: NameServer, tmp_path: Path) -> None:
    """A transport that another thread closes ends at once, also during a DNS query."""
    with sender(names, tmp_path, HTTP, 4318, timeout_s=CLIENT_TIMEOUT_S) as running:
        result, _, seconds, _ = running.send("close soon")
    assert result == "RETRYABLE"
    assert seconds < PROMPT_S
