"""Run the process that looks up symbols, until it has replied or its time is over."""

from __future__ import annotations

import marshal
import math
import os
import resource  # noqa: F401  os.wait4() imports it, on the path of a kill
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

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


class _Process(NamedTuple):
    """A process that waits for a request, and the agent's end of its socket."""

    pid: int
    socket: socket.socket


class SymbolChild:
    """The processes that were started and have not ended, for one thread.

    A killed process stays while it waits for a file system that hangs. There are two at most.
    """

    def __init__(self, spare_s: float = 0.0) -> None:
        """Keep a process ready for ``spare_s`` seconds after each request.

        Kills come in bursts, and to start a process takes longer than the request itself.
        """
        self._unreaped: list[int] = []
        self._replied: int | None = None
        """The process of the last request, which is killed and not reaped."""
        self._spare: _Process | None = None
        self._spare_s = spare_s
        self._spare_end_s = 0.0
        self.cpu_s = 0.0
        """CPU time of the last process that was reaped after its request."""

    def run(self, request: SymbolRequest, timeout_s: float) -> list[FrameSymbol] | None:
        """Return the symbols of the request's frames, in their order.

        ``None`` if the process was killed at its deadline or failed, or could not be started.
        The caller must :meth:`settle` later.
        """
        self.settle()
        frames = tuple((*frame,) for frame in request.frames)
        process = self._send(marshal.dumps((frames, *request[1:])))
        if process is None:
            return None
        reply = b""
        with process.socket, suppress(OSError):
            process.socket.settimeout(timeout_s)
            reply = process.socket.recv(MESSAGE_BYTES)
        _kill(process.pid)
        self._replied = process.pid
        return decode_symbols(reply, len(request.frames))

    def settle(self) -> bool:
        """Reap the process of the last request, and start a spare one; return if there was any.

        Both take milliseconds that the kill need not wait for.
        """
        pid, self._replied = self._replied, None
        if pid is None:
            return False
        self._end(pid)
        if self._spare_s:
            self._spare = self._start()
            self._spare_end_s = time.monotonic() + self._spare_s
        return True

    def end_spare(self) -> float:
        """End the spare process if its time is over; return the seconds until then."""
        if self._spare is None:
            return math.inf
        remaining_s = self._spare_end_s - time.monotonic()
        if remaining_s > 0:
            return remaining_s
        self._discard(self._spare)
        self._spare = None
        return math.inf

    def close(self) -> None:
        """End the processes that are left."""
        if self._replied is not None:
            self._end(self._replied)
            self._replied = None
        if self._spare is not None:
            self._discard(self._spare)
            self._spare = None

    def _send(self, message: bytes) -> _Process | None:
        """Send a request to the spare process, or else to a new one; return the receiver."""
        spare, self._spare = self._spare, None
        if spare is not None and self._try_send(spare, message):
            return spare
        process = self._start()
        if process is not None and self._try_send(process, message):
            return process
        return None

    def _try_send(self, process: _Process, message: bytes) -> bool:
        try:
            process.socket.send(message)
        except OSError:
            self._discard(process)
            return False
        return True

    def _discard(self, process: _Process) -> None:
        process.socket.close()
        self._end(process.pid)

    def _start(self) -> _Process | None:
        self._unreaped = [pid for pid in self._unreaped if _reap(pid) is None]
        if len(self._unreaped) >= _MAX_UNREAPED:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                return _Process(_start(theirs), ours)
            except OSError:
                ours.close()
                return None

    def _end(self, pid: int) -> None:
        _kill(pid)
        for _ in range(_REAP_TRIES):
            cpu_s = _reap(pid)
            if cpu_s is not None:
                self.cpu_s = cpu_s
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


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _reap(pid: int) -> float | None:
    """Return the CPU time in seconds of a process that has ended."""
    try:
        reaped, _, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return 0.0
    return usage.ru_utime + usage.ru_stime if reaped else None
