"""The cluster's name server: Services by their names, and nothing else (RFC 1035)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tests.cluster import plan

_HEADER: Final = 12
_TYPE_A: Final = b"\0\1"
_SERVICE_LABELS: Final = 5
"""NAME.NAMESPACE.svc.cluster.local"""
_TTL_S: Final = 5


class NameServer:
    """A name server on the node's address, while its context is entered."""

    def __init__(self, find_address: Callable[[str, str], str | None]) -> None:
        """Resolve Services by a function of namespace and name."""
        self._find_address = find_address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((plan.NODE_ADDRESS, 53))

    def start(self) -> None:
        """Serve in a thread that ends with the process."""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(512)
            with suppress(ValueError, IndexError, UnicodeDecodeError):  # not a question
                self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        end = question.index(b"\0", _HEADER) + 5
        exists, address = self._resolve(question[_HEADER : end - 5])
        records = b""
        if address and question[end - 4 : end - 2] == _TYPE_A:
            records = b"\xc0\x0c\0\1\0\1" + _TTL_S.to_bytes(4) + b"\0\4" + socket.inet_aton(address)
        flags = 0x8580 if exists else 0x8583  # an authoritative answer; NXDOMAIN
        counts = b"\0\1" + bool(records).to_bytes(2) + b"\0" * 4
        return question[:2] + flags.to_bytes(2) + counts + question[_HEADER:end] + records

    def _resolve(self, encoded: bytes) -> tuple[bool, str | None]:
        labels = []
        while encoded:
            length, encoded = encoded[0], encoded[1:]
            labels.append(encoded[:length].decode("ascii").lower())
            encoded = encoded[length:]
        if len(labels) != _SERVICE_LABELS or ".".join(labels[2:]) != f"svc.{plan.DOMAIN}":
            return False, None
        address = self._find_address(labels[1], labels[0])
        return address is not None, address
