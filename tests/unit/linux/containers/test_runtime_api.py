"""Runtime APIs that respond badly, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.linux.containers import runtime_api
from otel_oom.linux.containers.runtime_api import RuntimeApi
from otel_oom.model.snapshot import Container

CONTAINER = Container("1" * 64, "podman")


class Server:
    """A Unix socket that sends one response to every client, and counts them."""

    def __init__(self, path: Path, response: bytes | None) -> None:
        """Say ``response``, or nothing without ever hanging up."""
        self.requests = 0
        self._response = response
        self._held: list[socket.socket] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connected, _ = self._socket.accept()
            self.requests += 1
            if self._response is None:
                self._held.append(connected)
                continue
            with connected:
                connected.recv(4096)
                connected.sendall(self._response)


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "sock"


def api(address: Path) -> RuntimeApi:
    return RuntimeApi(frozenset({"team"}), {"CONTAINER_HOST": f"unix://{address}"})


@pytest.mark.parametrize(
    "response",
    [
        None,
        b"",
        b"nonsense\r\n\r\n",
    ],
)
def test_an_unresponsive_socket_gets_one_request(address: Path, response: bytes | None) -> None:
    """The second container waits for no deadline; both stay as they were, with an error."""
    server = Server(address, response)
    client = api(address)
    for container in (CONTAINER, Container("2" * 64, "podman", name="web")):
        expected = replace(container, error=f"no response from the runtime's API at {address}")
        assert client.add_details(container) == expected
    assert server.requests == 1


def test_slow_responses_use_up_a_budget(address: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four containers whose responses take 1.9 s each were 7.5 s of every batch."""
    server = Server(address, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}")
    client, now = api(address), [0.0]
    request = runtime_api._request  # noqa: SLF001  takes some time here

    def request_slowly(path: str, target: str) -> tuple[int, bytes]:
        response = request(path, target)
        now[0] += 1.9
        return response

    monkeypatch.setattr(runtime_api, "_request", request_slowly)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for number in range(128):
        client.add_details(Container(f"{number:064}", "podman"))
    assert (server.requests, now[0]) == (2, 3.8)
    now[0] += 60.0
    client.add_details(CONTAINER)
    assert server.requests == 3


@pytest.mark.parametrize("body", [b"[]", b"{", b"7", b'{"Config": 5, "Name": [], "Version": {}}'])
def test_a_malformed_response_changes_nothing(address: Path, body: bytes) -> None:
    Server(address, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
    assert api(address).add_details(CONTAINER) == CONTAINER


def test_a_missing_socket_is_an_error_of_the_container(address: Path) -> None:
    assert (
        api(address).add_details(CONTAINER).error
        == f"no response from the runtime's API at {address}"
    )


def test_a_complete_container_needs_no_request(address: Path) -> None:
    """Only the version is requested, once for all containers."""
    server = Server(address, b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"Version": "4.3.1"}')
    client = api(address)
    for number in range(3):
        container = Container(f"{number:064}", "podman", name="web", labels={"team": "shop"})
        assert client.add_details(container).runtime_version == "4.3.1"
    assert server.requests == 1
