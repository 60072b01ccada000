"""How another process asks the running agent: one line of JSON each way, over a Unix socket.

The store has one connection, the agent's (DURABILITY: SQLite before 3.51.3 can corrupt its log
when two connections reset it). So what a command wants to know or to change, it asks the agent.

A request names what is wanted as ``do``; the answer is ``{"ok": …}`` or ``{"error": sentence}``.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

_LOG = logging.getLogger(__name__)

_SOCKET: Final = "control.sock"
_REQUEST_BYTES: Final = 64 << 10
_ANSWER_BYTES: Final = 4 << 20
_REQUEST_S: Final = 2.0
"""What the agent gives a client to ask and to read the answer: others wait meanwhile."""
_ANSWER_S: Final = 30.0
_CHUNK: Final = 64 << 10

Request = Mapping[str, Any]
Answers = Mapping[str, Callable[[Request], Any]]
"""What can be asked for, each with who answers. An answer is JSON, of some hundred KiB at most."""


class NoAgentError(Exception):
    """No agent answers in this folder."""


class ControlError(Exception):
    """The agent does not do what was asked; the message is its sentence."""


class ControlServer:
    """Answers on a socket in the state folder, in a thread of its own, while it is entered.

    The folder is locked by then, so whatever has the socket's name there was left by a process
    that has ended. One request at a time, each bounded in size and time: whoever may open the
    socket (its owner alone) can keep others waiting, never the capture or the delivery.
    """

    def __init__(self, folder: Path, answers: Answers) -> None:
        """Answer by ``answers`` in ``folder``."""
        self._folder = folder
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def __enter__(self) -> Self:
        """Begin to answer; without a socket the agent works all the same."""
        try:
            with _address(self._folder) as (address, folder):
                with suppress(FileNotFoundError):
                    os.unlink(_SOCKET, dir_fd=folder)
                # Before it has a name, so that there is no moment in which others may open it.
                os.fchmod(self._listener.fileno(), 0o600)
                self._listener.bind(address)
            self._listener.listen()
        except OSError as error:
            _LOG.warning("Commands can't ask this agent: no socket in its folder (%s)", error)
        else:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to answer."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._thread.ident is not None:
            self._thread.join(2 * _REQUEST_S)
            with suppress(OSError):
                (self._folder / _SOCKET).unlink()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if isinstance(error, ConnectionAbortedError):
                    continue
                return
            with connection, suppress(OSError):
                line = _read_line(connection, _REQUEST_BYTES, _REQUEST_S)
                connection.settimeout(_REQUEST_S)
                connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"ok": self._answers[request["do"]](request)}
        except (ValueError, TypeError, KeyError):
            return {"error": "The agent does not know this request: is it of another version?"}
        except sqlite3.Error as error:
            return {"error": f"The agent's store does not take part: {error}."}
        except Exception:  # noqa: BLE001  a request must not end the thread
            _LOG.exception("A request to the agent failed")
            return {"error": "The request failed; the agent's log says how."}


def send_request(folder: Path, request: Request) -> Any:  # noqa: ANN401  JSON
    """What the agent that works in ``folder`` answers to ``request``.

    Raises:
        NoAgentError: there is none.
        ControlError: it does not do it.
        OSError: it does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_ANSWER_S)
        try:
            with _address(folder) as (address, _):
                connection.connect(address)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NoAgentError(str(error)) from error
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(_read_line(connection, _ANSWER_BYTES, _ANSWER_S) or b"{}")
    if "ok" not in answer:
        raise ControlError(answer.get("error", "The agent ended before it answered; ask again."))
    return answer["ok"]


@contextmanager
def _address(folder: Path) -> Iterator[tuple[str, int]]:
    """The socket's address, and the folder's descriptor.

    By the descriptor, for an address has no more than 108 bytes (unix(7)).
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_SOCKET}", descriptor
    finally:
        os.close(descriptor)


def _read_line(connection: socket.socket, most: int, within_s: float) -> bytes:
    """What comes until a newline, at most ``most`` bytes, within so many seconds in all."""
    deadline = time.monotonic() + within_s
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < most:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        piece = connection.recv(_CHUNK)
        if not piece:
            break
        line += piece
    return bytes(line)
