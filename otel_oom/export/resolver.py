"""DNS queries with a deadline, which the system's resolver lacks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import Any

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""An element of the result of :func:`socket.getaddrinfo`."""


class DnsQuery:
    """One query in a thread of its own, which is abandoned if it hangs."""

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
        """Return the addresses.

        Raises:
            OSError: the query failed, took more than ``timeout_s`` seconds, or was cancelled.
        """
        try:
            return self._addresses.result(timeout_s)
        except CancelledError:
            raise ConnectionAbortedError("the DNS query was cancelled") from None
        except TimeoutError:
            message = f"no DNS response for {self.address[0]} within the timeout"
            raise socket.gaierror(socket.EAI_AGAIN, message) from None

    def cancel(self) -> None:
        """End :meth:`wait` in any thread."""
        self._addresses.cancel()
