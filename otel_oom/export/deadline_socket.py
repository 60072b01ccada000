"""Connections with one deadline for all waits, which any thread can close.

The standard library's HTTP client limits each wait, not their sum: a backend that sends a byte at
a time could hold it for ever. It also shows no socket before the handshake has ended, which
a silent backend can delay just as long. The system's resolver has no deadline at all. What the
client skips (1xx responses, the headers of a tunnel, trailers) it reads without limit.
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
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from otel_oom.model.units import MS_PER_S

if TYPE_CHECKING:
    from ssl import SSLContext

    from _typeshed import WriteableBuffer

_MAX_RECEIVED_BYTES: Final = 1 << 20
"""Limit of all that is received for one request: headers, body and what is skipped."""

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""An element of the result of :func:`socket.getaddrinfo`."""


class DeadlineConnection:
    """One connection at a time, used by one thread; any other may call :meth:`close`."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._handle: socket.socket | None = None
        self._query: DnsQuery | None = None
        self._closed = False
        self._deadline = 0.0
        self._received_bytes = 0
        self.at_eof = False
        """True once the other side has closed its end of the connection."""

    def start(self, timeout_s: float) -> None:
        """Set the deadline of all following calls to ``timeout_s`` seconds from now."""
        self._deadline = time.monotonic() + timeout_s
        self._received_bytes = 0

    def remaining_s(self) -> float:
        """Return the seconds until the deadline. Raises TimeoutError after it."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def count_received(self, count: int) -> None:
        """Count bytes since :meth:`start`. Raises OSError beyond the limit."""
        self._received_bytes += count
        if self._received_bytes > _MAX_RECEIVED_BYTES:
            raise OSError(f"the response is longer than {_MAX_RECEIVED_BYTES} bytes")

    def connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """Connect to the first address of a host that accepts.

        It can replace :func:`socket.create_connection`. The deadline limits each wait of the
        result, which has what HTTP needs of a socket. Raises OSError if no address accepts, or
        this connection was closed.
        """
        failure = OSError("the host has no address")
        for family, kind, protocol, _name, target in self._resolve(address):
            connection = socket.socket(family, kind, protocol)
            try:
                self._connect_socket(connection, target)
            except OSError as error:
                connection.close()
                failure = error
            else:
                return cast("socket.socket", _DeadlineSocket(connection, self))
        raise failure

    def start_tls(self, connected: socket.socket, context: SSLContext, host: str) -> socket.socket:
        """Return a connected socket of :meth:`connect` with TLS. Raises OSError."""
        plain = cast("_DeadlineSocket", connected).socket
        # One timeout limits the whole handshake.
        plain.settimeout(self.remaining_s())
        encrypted = context.wrap_socket(plain, server_hostname=host)
        return cast("socket.socket", _DeadlineSocket(encrypted, self))

    def _resolve(self, address: tuple[str, int]) -> Sequence[Address]:
        with self._mutex:
            # A query that hangs is awaited again; a second one would hang as well.
            if self._query is None or self._query.address != address:
                self._query = DnsQuery(address)
            query = self._query
            if self._closed:
                query.cancel()
        try:
            return query.wait(self.remaining_s())
        finally:
            if query.done:
                self._query = None

    def _connect_socket(self, connection: socket.socket, target: tuple[Any, ...]) -> None:
        connection.setblocking(False)  # noqa: FBT003  the library's own signature
        with self._mutex:
            # Started under the lock: from here on a shutdown of the handle ends it.
            if self._closed:
                raise ConnectionAbortedError("the connection was closed")
            self._close_handle()
            self.at_eof = False
            self._handle = connection.dup()
            code = connection.connect_ex(target)
        if code == errno.EINPROGRESS:
            writable = select.poll()
            writable.register(connection, select.POLLOUT)
            if not writable.poll(self.remaining_s() * MS_PER_S):
                raise TimeoutError
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def discard(self) -> None:
        """Discard the connection, which its user has closed."""
        with self._mutex:
            self._close_handle()

    def close(self) -> None:
        """End the connection and all its waits, and allow no other."""
        with self._mutex:
            self._closed = True
            if self._query:
                self._query.cancel()
            if self._handle:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def _close_handle(self) -> None:
        if self._handle:
            self._handle.close()
        self._handle = None


class _DeadlineSocket:
    """The part of a socket that HTTP uses, with each wait limited by the deadline."""

    def __init__(self, connected: socket.socket, connection: DeadlineConnection) -> None:
        self.socket = connected
        self._connection = connection

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.socket.setsockopt(level, option, value)

    def sendall(self, data: bytes) -> None:
        self.socket.settimeout(self._connection.remaining_s())
        self.socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self.socket, self._connection))

    def close(self) -> None:
        self.socket.close()


class _Reader(io.RawIOBase):
    """The reading side of a socket, which keeps it open until this is closed as well."""

    def __init__(self, connected: socket.socket, connection: DeadlineConnection) -> None:
        self._socket = connected
        self._raw = connected.makefile("rb", buffering=0)
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        self._socket.settimeout(self._connection.remaining_s())
        count = self._raw.readinto(buffer)
        self._connection.at_eof = count == 0
        self._connection.count_received(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class DnsQuery:
    """A DNS query in a thread of its own, which is abandoned if it hangs."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self._addresses: Future[Sequence[Address]] = Future()
        threading.Thread(target=self._run, name="resolve", daemon=True).start()

    def _run(self) -> None:
        with suppress(InvalidStateError):  # cancelled
            try:
                addresses = socket.getaddrinfo(*self.address, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                self._addresses.set_exception(error)
            else:
                self._addresses.set_result(addresses)

    @property
    def done(self) -> bool:
        """Return true if the query succeeded, failed or was cancelled."""
        return self._addresses.done()

    def wait(self, timeout_s: float) -> Sequence[Address]:
        """Return the addresses, within ``timeout_s`` seconds. Raises OSError, also if cancelled."""
        try:
            return self._addresses.result(timeout_s)
        except CancelledError:
            raise ConnectionAbortedError("the DNS query was cancelled") from None
        except TimeoutError:
            message = "no DNS response within the timeout"
            raise socket.gaierror(socket.EAI_AGAIN, message) from None

    def cancel(self) -> None:
        """End :meth:`wait` in any thread."""
        self._addresses.cancel()
