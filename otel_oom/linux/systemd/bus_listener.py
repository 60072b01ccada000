"""Listen for one signal on the system bus, without a library and without waiting.

All that is to be sent fits into the socket's buffer, and is sent at once: the authentication, the
name of this connection, and the match rule.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_oom.linux.systemd.bus_signal import (
    MAX_MESSAGE_BYTES,
    BusSignal,
    build_call,
    message_bytes,
    parse_signal,
)

_LOG = logging.getLogger(__name__)

SYSTEM_BUS: Final = Path("/run/dbus/system_bus_socket")
_AUTHENTICATION: Final = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
_ACCEPTED: Final = b"OK "
_MAX_REPLY_BYTES: Final = 1024
_MAX_READS: Final = 16


class BusListener:
    """The signal ``member`` of an ``interface`` that the owner of the name ``sender`` emits."""

    def __init__(self, epoll: select.epoll, sender: str, interface: str, member: str) -> None:
        """Prepare; :meth:`connect` registers the socket with ``epoll``."""
        self._epoll = epoll
        self._interface, self._member = interface, member
        self._rule = f"type='signal',sender='{sender}',interface='{interface}',member='{member}'"
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._accepted = False

    @property
    def connected(self) -> bool:
        """True from the connection to its end."""
        return self._socket is not None

    def connect(self, path: Path = SYSTEM_BUS) -> bool:
        """Connect and subscribe; return false where there is no bus."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(0)
        try:
            connection.connect(str(path))
            calls = build_call("Hello", 1) + build_call("AddMatch", 2, self._rule)
            connection.sendall(_AUTHENTICATION + calls)
        except OSError:
            connection.close()
            return False
        self._socket, self._buffer, self._accepted = connection, b"", False
        self._epoll.register(connection, select.EPOLLIN)
        return True

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._epoll.unregister(self._socket)
            self._socket.close()
            self._socket = None

    def read_signals(self) -> Iterator[BusSignal]:
        """Return the signals that are available; a faulty connection is closed."""
        for _ in range(_MAX_READS):
            if self._socket is None:
                return
            try:
                received = self._socket.recv(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                received = b""
            if not received:
                _LOG.info("D-Bus: connection ended")
                self.close()
                return
            self._buffer += received
            try:
                yield from self._parse()
            except (ValueError, IndexError, KeyError, struct.error) as error:
                _LOG.warning("D-Bus: message rejected, connection closed: %r", error)
                self.close()

    def _parse(self) -> Iterator[BusSignal]:
        if not self._accepted and not self._read_acceptance():
            return
        while (length := message_bytes(self._buffer)) is not None and len(self._buffer) >= length:
            message, self._buffer = self._buffer[:length], self._buffer[length:]
            signal = parse_signal(message)
            wanted = (self._interface, self._member)
            if signal and signal.is_broadcast and (signal.interface, signal.member) == wanted:
                yield signal

    def _read_acceptance(self) -> bool:
        """Read the replies to the authentication, which are lines of text."""
        while b"\r\n" in self._buffer:
            reply, _, self._buffer = self._buffer.partition(b"\r\n")
            if reply.startswith(_ACCEPTED):
                self._accepted = True
                return True
            if reply != b"DATA":
                raise ValueError(reply[:64])
        if len(self._buffer) > _MAX_REPLY_BYTES:
            raise ValueError(len(self._buffer))
        return False
