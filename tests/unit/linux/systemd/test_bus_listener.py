"""One signal, from a real bus that compares its sender."""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from otel_oom.linux.systemd.bus_listener import BusListener
from otel_oom.linux.systemd.bus_signal import (
    BusSignal,
    build_call,
    message_bytes,
    parse_signal,
)
from tests.testlib.require import require_programs
from tests.testlib.wait import wait_until

NAME, INTERFACE, MEMBER = "org.example.killer", "org.example.killer.Manager", "Killed"
CONFIGURATION = """
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow own="*"/><allow eavesdrop="false"/>
<allow send_type="signal"/><allow receive_sender="*"/><allow user="*"/></policy></busconfig>
"""


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the socket of a bus of our own."""
    require_programs("dbus-daemon")
    folder = tmp_path_factory.mktemp("bus")
    path, configuration = folder / "socket", folder / "bus.conf"
    configuration.write_text(CONFIGURATION.format(path=path), encoding="ascii")
    command = ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_until(path.exists, "the bus")
        yield path
        process.terminate()


def build_message(kind: int, fields: dict[int, tuple[str, str]], *arguments: str | int) -> bytes:
    """Return a message in big-endian order, as any architecture may send it."""
    signature = "".join("s" if isinstance(argument, str) else "u" for argument in arguments)
    array, body = b"", b""
    for code, (type_, value) in fields.items():
        array += bytes(-len(array) % 8) + bytes((code, 1)) + type_.encode() + b"\0"
        array += struct.pack(">I", len(value)) + value.encode() + b"\0"
    array += bytes(-len(array) % 8) + bytes((8, 1, ord("g"), 0, len(signature)))
    array += signature.encode() + b"\0"
    for argument in arguments:
        body += bytes(-len(body) % 4)
        if isinstance(argument, int):
            body += struct.pack(">I", argument)
        else:
            body += struct.pack(">I", len(argument.encode())) + argument.encode() + b"\0"
    start = struct.pack(">cBBBIII", b"B", kind, 0, 1, len(body), 7, len(array)) + array
    return start + bytes(-len(start) % 8) + body


class Sender:
    """Another program on the bus."""

    def __init__(self, bus: Path, name: str | None) -> None:
        """Connect, and own the name."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(bus))
        self.socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n" + build_call("Hello", 1))
        if name:
            bus_name = "org.freedesktop.DBus"
            fields = {1: ("o", "/"), 2: ("s", bus_name), 3: ("s", "RequestName")}
            self.socket.sendall(build_message(1, {**fields, 6: ("s", bus_name)}, name, 0))

    def __enter__(self) -> Self:
        """Stay connected."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bus."""
        self.socket.close()

    def emit(self, *arguments: str, destination: str | None = None) -> None:
        """Emit the signal."""
        fields = {1: ("o", "/a"), 2: ("s", INTERFACE), 3: ("s", MEMBER)}
        if destination:
            fields[6] = ("s", destination)
        self.socket.sendall(build_message(4, fields, *arguments))


@pytest.fixture
def listener(bus: Path) -> Iterator[BusListener]:
    """Return a listener on the bus."""
    with select.epoll() as epoll:
        opened = BusListener(epoll, NAME, INTERFACE, MEMBER)
        assert opened.connect(bus)
        yield opened
        opened.close()


def read_one(listener: BusListener) -> BusSignal:
    """Return the next signal."""
    signals: list[BusSignal] = []

    def has_read() -> bool:
        signals.extend(listener.read_signals())
        return bool(signals)

    wait_until(has_read, "a signal")
    (signal,) = signals
    return signal


def test_only_the_owner_of_the_name_is_heard(bus: Path, listener: BusListener) -> None:
    """Not another program, whether it emits the signal to all or sends it to the listener."""
    with Sender(bus, NAME) as owner, Sender(bus, None) as other:
        for destination in (None, ":1.0", ":1.1", ":1.2"):
            other.emit("/forged", "oom", destination=destination)
        time.sleep(0.05)
        owner.emit("/kept é", "rule heavy")
        signal = read_one(listener)
    assert (signal.arguments, signal.is_broadcast) == (("/kept é", "rule heavy"), True)
    assert list(listener.read_signals()) == []
    assert listener.connected


def test_without_a_bus_nothing_is_heard(tmp_path: Path) -> None:
    with select.epoll() as epoll:
        listener = BusListener(epoll, NAME, INTERFACE, MEMBER)
        assert not listener.connect(tmp_path / "absent")
        assert (listener.connected, list(listener.read_signals())) == (False, [])


@pytest.mark.parametrize(
    "reply",
    [
        b"REJECTED EXTERNAL\r\n",
        2000 * b"x",
        b"DATA\r\nOK 1\r\n" + 64 * b"\xff",
        b"DATA\r\nOK 1\r\n" + struct.pack("<cBBBIII", b"l", 4, 0, 1, 1 << 31, 1, 8),
        b"DATA\r\nOK 1\r\n" + struct.pack("<cBBBIII", b"l", 4, 0, 1, 0, 1, 8) + 8 * b"\x01",
        b"",
    ],
)
def test_a_faulty_bus_is_left(tmp_path: Path, reply: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as server, select.epoll() as epoll:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        listener = BusListener(epoll, NAME, INTERFACE, MEMBER)
        assert listener.connect(tmp_path / "socket")
        connection, _ = server.accept()
        with connection:
            connection.sendall(reply)
        assert list(listener.read_signals()) == []
        assert not listener.connected


def test_malformed_messages_raise_what_is_documented() -> None:
    """Each byte in turn has other values."""
    message = bytearray(build_call("AddMatch", 2, "type='signal'"))
    message[1] = 4
    assert parse_signal(bytes(message)) is not None
    for index in range(1, len(message)):
        for value in (0, 1, 0x7F, 0xFF):
            changed = bytes(message[:index]) + bytes((value,)) + bytes(message[index + 1 :])
            try:
                parse_signal(changed)
                message_bytes(changed)
            except (ValueError, IndexError, KeyError, struct.error):
                continue
