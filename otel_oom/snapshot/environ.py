"""The victim's own name for itself: the two ``OTEL_*`` variables of its environment that say it.

A process's environment is in its own memory. To read it takes the lock of its address space,
which a process that hangs in the kernel may hold for ever. So it is asked for in a thread of its
own, and what does not come at once is gone without.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs

VARIABLES: Final = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
"""All that is kept. Others of OpenTelemetry's hold secrets, such as the exporters' headers."""

_READ_BYTES: Final = 65536
_MOST_CHARS: Final = 4096
_WAIT_S: Final = 0.005


def kept(environ: str) -> dict[str, str]:
    """What is kept of a ``/proc/PID/environ``: :data:`VARIABLES`, each whole or not at all."""
    # What ends without a NUL was cut by the bound of the read.
    pairs = (entry.partition("=") for entry in environ.split("\0")[:-1])
    found: dict[str, str] = {}
    for name, _, value in pairs:
        # Of two with one name the first holds, as for getenv(3).
        if name in VARIABLES and 0 < len(value) <= _MOST_CHARS:
            found.setdefault(name, value)
    return found


class EnvironReader:
    """Reads what is kept of a process's environment, without ever waiting long for it."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Start the thread: when a victim is there, there may be no memory for one."""
        self._proc = proc
        self._asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        self._open = 0
        threading.Thread(target=self._run, name="environ", daemon=True).start()

    def read(self, pid: int) -> dict[str, str]:
        """What is kept of the environment of ``pid``; empty where it can't be had at once."""
        while self._open and not self._answers.empty():
            # Of an earlier victim, which came too late.
            self._answers.get()
            self._open -= 1
        if self._open:
            return {}
        self._asked.put(pid)
        self._open += 1
        try:
            answer = self._answers.get(timeout=_WAIT_S)
        except queue.Empty:
            return {}
        self._open -= 1
        return answer

    def _run(self) -> None:
        while True:
            path = self._proc / str(self._asked.get()) / "environ"
            try:
                text = procfs.read_text(path, _READ_BYTES)
                self._answers.put(kept(text) if text else {})
            except MemoryError:
                self._answers.put({})
