"""A host's addresses, with a deadline, which the system's resolver does not know."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import Any

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""As :func:`socket.getaddrinfo` has it."""


class DnsQuery:
    """One question, asked in a thread of its own, which is left alone where it hangs."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Ask for the addresses of a host and port."""
        self.address = address
        self._result: Future[Sequence[Address]] = Future()
        threading.Thread(target=self._ask, name="resolve", daemon=True).start()

    def _ask(self) -> None:
        with suppress(InvalidStateError):  # nobody wants to know any more
            try:
                addresses = socket.getaddrinfo(*self.address, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                self._result.set_exception(error)
            else:
                self._result.set_result(addresses)

    @property
    def over(self) -> bool:
        """Whether there is an answer, of whatever kind."""
        return self._result.done()

    def answer(self, within_s: float) -> Sequence[Address]:
        """The addresses.

        Raises:
            OSError: there are none, none came ``within_s`` seconds, or it was given up.
        """
        try:
            return self._result.result(within_s)
        except CancelledError:
            raise ConnectionAbortedError("the look-up was given up") from None
        except TimeoutError:
            words = f"no answer to the name {self.address[0]} within the timeout"
            raise socket.gaierror(socket.EAI_AGAIN, words) from None

    def give_up(self) -> None:
        """End :meth:`answer` in whatever thread waits there."""
        self._result.cancel()
