"""A name server of a test's own, and a mount namespace whose resolver uses it.

The resolver reads ``/etc/resolv.conf`` and knows port 53 only. So the server has an address of its
own on loopback, and the process under test a mount namespace.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.testlib.command import mount_namespace
from tests.testlib.require import require

NAME = "collector.example.com"
_ANSWER_A = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + socket.inet_aton("127.0.0.1")
_HEADER = 12
_FAILURE = 2


class NameServer:
    """A name server that resolves every name to 127.0.0.1, fails, or never replies."""

    def __init__(self) -> None:
        """Begin silent."""
        require(os.geteuid() == 0, "port 53 needs root")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # All of 127/8 is this host; by the process id, for tests may run beside each other.
        pid = os.getpid()
        self.address = f"127.53.{pid >> 8 & 255}.{pid & 254 | 1}"
        self._socket.bind((self.address, 53))
        self._thread = threading.Thread(target=self._serve)
        self.mode = "silent"
        """``silent``, ``failing`` or ``answering``."""
        self.questions = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def mounts(self, folder: Path) -> tuple[str, ...]:
        """Return a command prefix that makes this server the only one."""
        configuration = folder / "resolv.conf"
        configuration.write_text(
            f"nameserver {self.address}\noptions attempts:2 timeout:10\n", encoding="ascii"
        )
        return mount_namespace(f"mount --bind {configuration} /etc/resolv.conf")

    def _serve(self) -> None:
        while True:
            try:
                question, client = self._socket.recvfrom(512)
            except OSError:
                return
            if not question:
                return
            self.questions += 1
            if self.mode != "silent":
                self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        """Return a response of RFC 1035, section 4.1."""
        end = question.index(b"\0", _HEADER) + 5
        wants_a = question[end - 4 : end - 2] == b"\0\x01"
        answers = int(wants_a and self.mode == "answering")
        flags = 0x8180 | (_FAILURE if self.mode == "failing" else 0)
        head = question[:2] + flags.to_bytes(2) + b"\0\x01" + answers.to_bytes(2) + b"\0" * 4
        return head + question[_HEADER:end] + _ANSWER_A * answers
