"""The control socket: it serves its owner, whatever other clients send."""

from __future__ import annotations

import json
import socket
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from otel_oom.agent.control_server import (
    ControlError,
    ControlServer,
    NoAgentError,
    Request,
    send_request,
)

ECHO: dict[str, Any] = {"echo": lambda request: request["value"]}


def fail(_: Request) -> None:
    """Fail like a full disk."""
    raise sqlite3.OperationalError("database or disk is full")


def echo(folder: Path) -> bool:
    """Return true if the server responds."""
    return bool(send_request(folder, {"method": "echo", "value": 1}) == 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create a state directory with a path that is too long for the address of a socket."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir(mode=0o700)
    return deep


@pytest.fixture
def server(folder: Path) -> Iterator[ControlServer]:
    """Run a server as the agent does."""
    with ControlServer(folder, {**ECHO, "fail": fail}) as running:
        yield running


def address(folder: Path) -> str:
    """Return the socket's address through a link: its real one is too long."""
    link = folder.parent / "link"
    if not link.exists():
        link.symlink_to(folder)
    return str(link / "control.sock")


@contextmanager
def connected(folder: Path) -> Iterator[socket.socket]:
    """Connect a client of the test's own."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address(folder))
        yield connection


def send_raw(folder: Path, data: bytes) -> bytes:
    """Send bytes as they are, and read to the end."""
    with connected(folder) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("value", ["x", ["é\n", None, 1], "y" * 60_000])
def test_a_request_gets_its_result(folder: Path, value: object) -> None:
    assert send_request(folder, {"method": "echo", "value": value}) == value


@pytest.mark.usefixtures("server")
def test_only_the_owner_may_open_the_socket(folder: Path) -> None:
    mode = (folder / "control.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"\n", b"rubbish\n", b"[]\n", b"{}\n"),
        *(b'{"method": "unknown"}\n', b'{"method": []}\n'),
    ],
)
@pytest.mark.usefixtures("server")
def test_an_invalid_request_gets_an_error_and_the_next_one_its_result(
    folder: Path, line: bytes
) -> None:
    assert "error" in json.loads(send_raw(folder, line))
    assert echo(folder)


@pytest.mark.usefixtures("server")
def test_an_endless_request_is_cut(folder: Path) -> None:
    with suppress(OSError):  # it may have hung up by then
        assert "error" in json.loads(send_raw(folder, b"x" * (8 << 20)))
    assert echo(folder)


@pytest.mark.usefixtures("server")
def test_a_silent_client_delays_the_next_one_for_a_while_only(folder: Path) -> None:
    with connected(folder):
        assert echo(folder)


@pytest.mark.usefixtures("server")
def test_an_error_of_the_store_reaches_the_client(folder: Path) -> None:
    with pytest.raises(ControlError, match="disk is full"):
        send_request(folder, {"method": "fail"})


def test_no_agent(folder: Path, tmp_path: Path) -> None:
    """No directory, no socket, and the socket of a killed agent are all recognised."""
    with pytest.raises(NoAgentError):
        echo(tmp_path / "nowhere")
    with pytest.raises(NoAgentError):
        echo(folder)
    with ControlServer(folder, ECHO):
        pass
    with pytest.raises(NoAgentError):
        echo(folder)
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(address(folder))
    with pytest.raises(NoAgentError):
        echo(folder)
    with ControlServer(folder, ECHO):
        assert echo(folder)


def test_a_symbolic_link_in_place_of_the_socket_is_replaced(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine", encoding="ascii")
    (folder / "control.sock").symlink_to(target)
    with ControlServer(folder, ECHO):
        assert echo(folder)
    assert target.read_text(encoding="ascii") == "mine"


def test_without_a_socket_the_agent_logs_it_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ControlServer(tmp_path / "nowhere", ECHO):
        pass
    assert "commands can't query this agent" in caplog.text


def test_the_end_leaves_neither_thread_nor_socket(folder: Path) -> None:
    before = threading.active_count()
    with ControlServer(folder, ECHO):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert not (folder / "control.sock").exists()
