"""The agent's socket: answers who may ask, and is kept from nothing by who asks badly."""

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

ECHO: dict[str, Any] = {"echo": lambda request: request["what"]}


def broken(_: Request) -> None:
    """Fail as a full disk does."""
    raise sqlite3.OperationalError("database or disk is full")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder, deeper than the address of a socket can tell."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir(mode=0o700)
    return deep


@pytest.fixture
def agent(folder: Path) -> Iterator[ControlServer]:
    """What an agent runs."""
    with ControlServer(folder, {**ECHO, "broken": broken}) as running:
        yield running


def address(folder: Path) -> str:
    """The socket's, by way of a link: its real one is too long."""
    link = folder.parent / "link"
    if not link.exists():
        link.symlink_to(folder)
    return str(link / "control.sock")


@contextmanager
def connected(folder: Path) -> Iterator[socket.socket]:
    """A client of the test's own."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address(folder))
        yield connection


def raw(folder: Path, data: bytes) -> bytes:
    """Send bytes as they are, and read to the end."""
    with connected(folder) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.usefixtures("agent")
def test_a_request_is_answered(folder: Path) -> None:
    """What is asked comes back, also where it is longer than one read."""
    for what in ("x", ["é\n", None, 1], "y" * 60_000):
        assert send_request(folder, {"do": "echo", "what": what}) == what


@pytest.mark.usefixtures("agent")
def test_only_its_owner_may_ask(folder: Path) -> None:
    """The socket is nobody else's, whatever the umask says."""
    mode = (folder / "control.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"rubbish\n", b"[]\n", b"{}\n", b'{"do": "no such thing"}\n', b'{"do": []}\n'],
)
@pytest.mark.usefixtures("agent")
def test_rubbish_is_answered_with_a_sentence(folder: Path, line: bytes) -> None:
    """Who asks what is not known is told so, and the next one is answered."""
    assert "error" in json.loads(raw(folder, line))
    assert send_request(folder, {"do": "echo", "what": 1}) == 1


@pytest.mark.usefixtures("agent")
def test_a_request_without_end_is_given_up(folder: Path) -> None:
    """A request is read to a limit, then judged as it is."""
    with suppress(OSError):  # it may have hung up by then
        assert "error" in json.loads(raw(folder, b"x" * (8 << 20)))
    assert send_request(folder, {"do": "echo", "what": 1}) == 1


@pytest.mark.usefixtures("agent")
def test_who_says_nothing_is_given_up(folder: Path) -> None:
    """A client that hangs keeps the next one waiting for a while, not for ever."""
    with connected(folder):
        assert send_request(folder, {"do": "echo", "what": 1}) == 1


@pytest.mark.usefixtures("agent")
def test_what_the_store_says_reaches_who_asked(folder: Path) -> None:
    """A failure of the disk is the answer, as a sentence."""
    with pytest.raises(ControlError, match="disk is full"):
        send_request(folder, {"do": "broken"})


def test_nobody_there_is_told_apart(folder: Path, tmp_path: Path) -> None:
    """No folder, no socket, and a socket that a killed agent left behind are all no agent."""
    with pytest.raises(NoAgentError):
        send_request(tmp_path / "nowhere", {"do": "echo"})
    with pytest.raises(NoAgentError):
        send_request(folder, {"do": "echo"})
    with ControlServer(folder, ECHO):
        pass
    with pytest.raises(NoAgentError):
        send_request(folder, {"do": "echo"})
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(address(folder))
    with pytest.raises(NoAgentError):
        send_request(folder, {"do": "echo"})
    with ControlServer(folder, ECHO):
        assert send_request(folder, {"do": "echo", "what": 1}) == 1


def test_a_link_in_its_place_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    """A symbolic link of the socket's name is replaced, and what it led to is left alone."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine", encoding="ascii")
    (folder / "control.sock").symlink_to(elsewhere)
    with ControlServer(folder, ECHO):
        assert send_request(folder, {"do": "echo", "what": 1}) == 1
    assert elsewhere.read_text(encoding="ascii") == "mine"


def test_an_agent_without_a_socket_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where there can be no socket the agent says so, and goes on."""
    with ControlServer(tmp_path / "nowhere", ECHO):
        pass
    assert "can't ask this agent" in caplog.text


def test_the_end_leaves_nothing(folder: Path) -> None:
    """After the end there is no thread and no socket."""
    before = threading.active_count()
    with ControlServer(folder, ECHO):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert not (folder / "control.sock").exists()
