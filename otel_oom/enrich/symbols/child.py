"""Run the process that looks up symbols, until it has replied or its time is over."""

from __future__ import annotations

import marshal
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from otel_oom.enrich.symbols.request import (
    MESSAGE_BYTES,
    FrameSymbol,
    SymbolRequest,
    decode_symbols,
)

TIMEOUT_S: Final = 1.5
_PACKAGE_PARENT: Final = str(Path(__file__).parents[3])
_PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from otel_oom.enrich.symbols.child_main import main; main()"
)
_VARIABLES: Final = ("LD_LIBRARY_PATH",)
"""What an interpreter may need to start; none of the agent's secrets."""
_MAX_UNREAPED: Final = 2
_REAP_TRIES: Final = 250
_REAP_PAUSE_S: Final = 0.002


class SymbolChild:
    """The processes that were started and have not ended, for one thread.

    A killed process stays while it waits for a file system that hangs. There are two at most.
    """

    def __init__(self) -> None:
        self._unreaped: list[int] = []

    def run(self, request: SymbolRequest, timeout_s: float) -> list[FrameSymbol] | None:
        """Return the symbols of the request's frames, in their order.

        ``None`` if the process was killed at its deadline or failed, or could not be started.
        """
        self._unreaped = [pid for pid in self._unreaped if not _is_reaped(pid)]
        if len(self._unreaped) >= _MAX_UNREAPED:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                try:
                    frames = tuple((*frame,) for frame in request.frames)
                    ours.send(marshal.dumps((frames, *request[1:])))
                    pid = _start(theirs)
                except OSError:
                    return None
            ours.settimeout(timeout_s)
            try:
                reply = ours.recv(MESSAGE_BYTES)
            except OSError:
                reply = b""
            finally:
                self._end(pid)
        return decode_symbols(reply, len(request.frames))

    def _end(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        for _ in range(_REAP_TRIES):
            if _is_reaped(pid):
                return
            time.sleep(_REAP_PAUSE_S)
        self._unreaped.append(pid)


def _start(theirs: socket.socket) -> int:
    words = [sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, _PACKAGE_PARENT]
    return os.posix_spawn(
        sys.executable,
        words,
        {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsigmask=(),
    )


def _is_reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
