"""A connection that one deadline bounds and that any thread can end.

The standard library's HTTP client bounds each wait, not their sum: a backend that answers a byte
at a time would hold it for ever. And it shows no socket before it has connected and shaken
hands, which a silent backend can draw out just as long as an answer.
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from otel_oom.export.resolver import Address, DnsQuery
from otel_oom.model.units import MS_PER_S

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class DeadlineConnection:
    """One connection at a time, by one thread at a time; :meth:`close` is for any other."""

    def __init__(self) -> None:
        """Begin without a connection."""
        self._mutex = threading.Lock()
        self._handle: socket.socket | None = None
        self._names: DnsQuery | None = None
        self._closed = False
        self._deadline = 0.0
        self.at_end = False
        """Whether the other side's end of the connection has been read."""

    def begin(self, timeout_s: float) -> None:
        """Allow ``timeout_s`` seconds from now for all that follows."""
        self._deadline = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """The seconds that are left.

        Raises:
            TimeoutError: none are.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def dial(self, address: tuple[str, int], *_: object) -> socket.socket:
        """Connect to the first of a host's addresses that answers.

        It can stand in for :func:`socket.create_connection`.

        Raises:
            OSError: none does, or the line is closed.
        """
        failure = OSError(f"{address[0]} has no address")
        for family, kind, protocol, _name, where in self._look_up(address):
            connection = socket.socket(family, kind, protocol)
            try:
                self._connect(connection, where)
            except OSError as error:
                connection.close()
                failure = error
            else:
                connection.settimeout(self.left_s())
                return connection
        raise failure

    def _look_up(self, address: tuple[str, int]) -> Sequence[Address]:
        with self._mutex:
            # A resolver that hangs is waited for again rather than asked a second time.
            if self._names is None or self._names.address != address:
                self._names = DnsQuery(address)
            names = self._names
            if self._closed:
                names.give_up()
        try:
            return names.answer(self.left_s())
        finally:
            if names.over:
                self._names = None

    def _connect(self, connection: socket.socket, where: tuple[Any, ...]) -> None:
        connection.setblocking(False)  # noqa: FBT003  the library's own signature
        with self._mutex:
            # Begun under the lock: from here on a shutdown of the handle ends it.
            if self._closed:
                raise ConnectionAbortedError("the line is closed")
            self._let_go()
            self.at_end = False
            self._handle = connection.dup()
            code = connection.connect_ex(where)
        if code == errno.EINPROGRESS:
            made = select.poll()
            made.register(connection, select.POLLOUT)
            if not made.poll(self.left_s() * MS_PER_S):
                raise TimeoutError
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def bound(self, connected: socket.socket) -> socket.socket:
        """``connected`` with the deadline over all of its waits, as far as HTTP needs it."""
        return cast("socket.socket", _Bounded(connected, self))

    def drop(self) -> None:
        """Forget the connection, which its user has closed."""
        with self._mutex:
            self._let_go()

    def close(self) -> None:
        """End the connection, whatever it is busy with, and allow no other."""
        with self._mutex:
            self._closed = True
            if self._names:
                self._names.give_up()
            if self._handle:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        if self._handle:
            self._handle.close()
        self._handle = None


class _Bounded:
    """What HTTP uses of a connected socket, each wait no longer than what is left in all."""

    def __init__(self, connected: socket.socket, line: DeadlineConnection) -> None:
        self._socket = connected
        self._line = line

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(self._line.left_s())
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._socket, self._line))

    def close(self) -> None:
        self._socket.close()


class _Reader(io.RawIOBase):
    """The reading side of a socket, which stays open until this is closed as well."""

    def __init__(self, connected: socket.socket, line: DeadlineConnection) -> None:
        self._socket = connected
        self._raw = connected.makefile("rb", buffering=0)
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        self._socket.settimeout(self._line.left_s())
        count = self._raw.readinto(buffer)
        self._line.at_end = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
