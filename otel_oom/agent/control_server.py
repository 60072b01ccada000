"""Control socket of the running agent: one line of JSON each way, over a Unix socket.

The store has one connection, the agent's: SQLite before 3.51.3 can corrupt its write-ahead log if
two connections reset it. So commands query and change the store through the agent.

A request has a ``method``; the response is ``{"result": …}`` or ``{"error": sentence}``.
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
_MAX_REQUEST_BYTES: Final = 64 << 10
_MAX_RESPONSE_BYTES: Final = 4 << 20
_REQUEST_S: Final = 2.0
"""Time for a client to send its request and to read the response: others wait meanwhile."""
_RESPONSE_S: Final = 30.0
_CHUNK_BYTES: Final = 64 << 10

Request = Mapping[str, Any]
Handlers = Mapping[str, Callable[[Request], Any]]
"""Handlers by method. A result is JSON, of some hundred KiB at most."""


class NoAgentError(Exception):
    """No agent listens in this directory."""


class ControlError(Exception):
    """The agent failed to handle the request; the message is its sentence."""


class ControlServer:
    """Server on a socket in the state directory, with a thread of its own, while it is entered.

    The directory is locked by then, so an existing socket is that of a process that has ended. One
    request at a time, limited in size and time: a client (its owner alone may open the socket) can
    delay other clients, never capture or delivery.
    """

    def __init__(self, folder: Path, handlers: Handlers) -> None:
        self._folder = folder
        self._handlers = handlers
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def __enter__(self) -> Self:
        """Start the server; the agent works without a socket too."""
        try:
            with _open_address(self._folder) as (address, descriptor):
                with suppress(FileNotFoundError):
                    os.unlink(_SOCKET, dir_fd=descriptor)
                # Before it has a name, so that others can open it at no moment.
                os.fchmod(self._listener.fileno(), 0o600)
                self._listener.bind(address)
            self._listener.listen()
        except OSError as error:
            _LOG.warning("Control socket: commands can't query this agent: %s", error)
        else:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
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
            except ConnectionAbortedError:
                continue
            except OSError:
                return
            with connection, suppress(OSError):
                line = _read_line(connection, _MAX_REQUEST_BYTES, _REQUEST_S)
                connection.settimeout(_REQUEST_S)
                connection.sendall(json.dumps(self._respond(line)).encode() + b"\n")

    def _respond(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"result": self._handlers[request["method"]](request)}
        except (ValueError, TypeError, KeyError):
            return {"error": "The agent does not know this request: is it of another version?"}
        except sqlite3.Error as error:
            return {"error": f"The agent cannot access its store: {error}."}
        except Exception:  # noqa: BLE001  a request must not end the thread
            _LOG.exception("Control socket: a request failed")
            return {"error": "The request failed; see the log of the agent."}


def send_request(folder: Path, request: Request, timeout_s: float = _RESPONSE_S) -> Any:  # noqa: ANN401  JSON
    """Return the result of ``request`` from the agent that runs in ``folder``.

    Raises:
        NoAgentError: no agent runs there.
        ControlError: the request failed.
        OSError: the agent does not respond.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout_s)
        try:
            with _open_address(folder) as (address, _):
                connection.connect(address)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NoAgentError(str(error)) from error
        connection.sendall(json.dumps(request).encode() + b"\n")
        response = json.loads(_read_line(connection, _MAX_RESPONSE_BYTES, timeout_s) or b"{}")
    if "result" not in response:
        raise ControlError(response.get("error", "The agent ended before it responded; try again."))
    return response["result"]


@contextmanager
def _open_address(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the socket's address and the directory's descriptor.

    The address is below the descriptor: it may have no more than 108 bytes (unix(7)).
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_SOCKET}", descriptor
    finally:
        os.close(descriptor)


def _read_line(connection: socket.socket, max_bytes: int, timeout_s: float) -> bytes:
    """Read up to a newline or ``max_bytes``, within ``timeout_s`` seconds in all."""
    deadline = time.monotonic() + timeout_s
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < max_bytes:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        connection.settimeout(remaining_s)
        chunk = connection.recv(_CHUNK_BYTES)
        if not chunk:
            break
        line += chunk
    return bytes(line)
