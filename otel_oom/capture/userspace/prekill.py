"""Answer systemd-oomd's hook before a kill (varlink ``io.systemd.oom.Prekill``, since 259).

systemd-oomd calls each socket of a folder before it kills, and waits up to its
``PrekillHookTimeoutSec=``: zero, its default, calls none. A thread answers, whatever else the agent
does. It is the one moment at which all processes of the cgroup still live.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from otel_oom.model.types import TaskList

_LOG = logging.getLogger(__name__)

HOOK_DIR: Final = Path("/run/systemd/oomd.prekill.hook")
_NAME: Final = "otel-oom"
_METHOD: Final = "io.systemd.oom.Prekill.Notify"
_MAX_BYTES: Final = 1 << 14
_LIMIT_S: Final = 1.0
"""The time for a caller to send its message."""
_MAX_LISTS: Final = 64
LIST_LIMIT_S: Final = 0.5
"""The time to list processes: systemd-oomd waits, and none are left to list afterwards."""
_VALID_S: Final = 120.0
"""A list that waits longer is of a cgroup that was not killed, or of another kill."""


class PrekillHook:
    """The lists of processes that were made when the hook was called."""

    def __init__(
        self, list_processes: Callable[[str], TaskList | None], folder: Path = HOOK_DIR
    ) -> None:
        """Prepare; ``list_processes`` returns those of a cgroup, in bounded time."""
        self._list_processes = list_processes
        self._path = folder / _NAME
        self._lists: OrderedDict[str, tuple[float, TaskList]] = OrderedDict()
        self._lock = threading.Lock()
        self._inode = 0
        self._socket: socket.socket | None = None

    def open(self) -> bool:
        """Start to answer, once; return false where the folder is not writable.

        The shipped unit makes it writable for the agent.
        """
        if self._socket is not None:
            return True
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o755, exist_ok=True)
        self._socket = _listen(self._path)
        if self._socket is None:
            return False
        self._inode = self._path.stat().st_ino
        threading.Thread(target=self._answer_calls, name="prekill", daemon=True).start()
        return True

    def close(self) -> None:
        """Stop answering."""
        if self._socket is not None:
            with suppress(OSError):
                # Not that of an agent which has started since.
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
            # It wakes the thread.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None

    def take(self, path: str) -> TaskList | None:
        """Return the processes of a cgroup, once; ``None`` if the hook was not called for it."""
        with self._lock:
            made_at, tasks = self._lists.pop(path, (0.0, None))
        return tasks if time.monotonic() - made_at < _VALID_S else None

    def _answer_calls(self) -> None:
        listener = self._socket
        while listener is not None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(_LIMIT_S)
                self._answer_call(connection)

    def _answer_call(self, connection: socket.socket) -> None:
        path = parse_call(_read_message(connection))
        if path is None:
            error: dict[str, object] = {
                "error": "org.varlink.service.InvalidParameter",
                "parameters": {},
            }
            connection.sendall(_encode(error))
            return
        try:
            tasks = self._list_processes(path)
        except Exception:  # noqa: BLE001  systemd-oomd waits for an answer
            _LOG.exception("Prekill hook: processes not listed")
            tasks = None
        if tasks is not None:
            # Before the reply: who finds no list finds the processes alive.
            with self._lock:
                self._lists[path] = (time.monotonic(), tasks)
                while len(self._lists) > _MAX_LISTS:
                    self._lists.popitem(last=False)
        connection.sendall(_encode({"parameters": {}}))


def _listen(path: Path) -> socket.socket | None:
    listener = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        # Root, and systemd-oomd, which has CAP_DAC_OVERRIDE.
        path.chmod(0o600)
        listener.listen()
    except OSError:
        listener.close()
        return None
    return listener


def parse_call(message: bytes) -> str | None:
    """Return the cgroup of a call; ``None`` for any other message."""
    try:
        call = json.loads(message)
        path = call["parameters"]["cgroup"]
        if call["method"] != _METHOD or not isinstance(path, str):
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_path = path.startswith("/") and ".." not in path.split("/") and "\0" not in path
    return os.path.normpath(path) if is_path else None


def _read_message(connection: socket.socket) -> bytes:
    """Return a message without its end, a zero byte; none if it does not end in time."""
    message, deadline = b"", time.monotonic() + _LIMIT_S
    while len(message) < _MAX_BYTES and time.monotonic() < deadline:
        received = connection.recv(_MAX_BYTES)
        message += received
        if b"\0" in received:
            return message.partition(b"\0")[0]
        if not received:
            break
    return b""


def _encode(reply: dict[str, object]) -> bytes:
    return json.dumps(reply).encode() + b"\0"
