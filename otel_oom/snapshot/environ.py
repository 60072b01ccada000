"""The victim's own service name: the two ``OTEL_*`` variables of its environment that hold it.

A process's environment is in its own memory. Reading it takes the lock of its address space, which
a process that hangs in the kernel may hold for ever. So a thread reads it, and a read that takes
longer than 5 ms is abandoned.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Final

from otel_oom.linux.process import ProcessDir

VARIABLES: Final = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
"""Others of OpenTelemetry's hold secrets, such as the exporters' headers."""

_READ_BYTES: Final = 65536
_MAX_CHARS: Final = 4096
_WAIT_S: Final = 0.005


def select_variables(environ: str) -> dict[str, str]:
    """Return the :data:`VARIABLES` in a ``/proc/PID/environ``, except for truncated ones."""
    # An entry without a NUL at its end was cut by the bound of the read.
    pairs = (entry.partition("=") for entry in environ.split("\0")[:-1])
    selected: dict[str, str] = {}
    for name, _, value in pairs:
        # Of two with one name the first counts, as for getenv(3).
        if name in VARIABLES and 0 < len(value) <= _MAX_CHARS:
            selected.setdefault(name, value)
    return selected


class EnvironReader:
    """Reader of :data:`VARIABLES` of a process, without a long wait."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Start the thread: at a kill there may be no memory for one."""
        self._proc = proc
        self._requests: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        self._pending = 0
        threading.Thread(target=self._run, name="environ", daemon=True).start()

    def read(self, pid: int) -> dict[str, str]:
        """Return the variables of ``pid``; empty if they are not readable at once."""
        while self._pending and not self._results.empty():
            # A late result, of an earlier victim.
            self._results.get()
            self._pending -= 1
        if self._pending:
            return {}
        self._requests.put(pid)
        self._pending += 1
        try:
            variables = self._results.get(timeout=_WAIT_S)
        except queue.Empty:
            return {}
        self._pending -= 1
        return variables

    def _run(self) -> None:
        while True:
            process = ProcessDir(self._requests.get(), self._proc)
            try:
                text = process.read_text("environ", _READ_BYTES)
                self._results.put(select_variables(text) if text else {})
            except MemoryError:
                self._results.put({})
