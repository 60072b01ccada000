"""The victim's own service name: the two ``OTEL_*`` variables of its environment that hold it.

A process's environment is in its own memory. Reading it takes the lock of its address space, which
a process that hangs in the kernel may hold for ever, or waits for a page that the victim's owner
serves. So a thread reads it. A read that takes longer than 5 ms is abandoned with its thread, and
another thread serves the next victim.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from otel_oom.linux.cgroup_holder import find_holder
from otel_oom.linux.process import ProcessDir

VARIABLES: Final = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
"""Others of OpenTelemetry's hold secrets, such as the exporters' headers."""

_READ_BYTES: Final = 65536
_MAX_CHARS: Final = 4096
_WAIT_S: Final = 0.005
_MAX_BLOCKED: Final = 16
"""Threads that wait for victims at the same time."""
_MAX_BLOCKED_OF_HOLDER: Final = 2
"""The victims of one tenant must not use them all."""


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


class _Read:
    """A read of one process, by one thread for another."""

    def __init__(self, pid: int, holder: str) -> None:
        self.pid = pid
        self.holder = holder
        self._changed = threading.Condition()
        self._variables: dict[str, str] | None = None
        self._is_abandoned = False

    @property
    def is_done(self) -> bool:
        return self._variables is not None

    def finish(self, variables: dict[str, str]) -> bool:
        """Set the result; return whether somebody waits for it."""
        with self._changed:
            self._variables = variables
            self._changed.notify()
            return not self._is_abandoned

    def wait(self) -> dict[str, str] | None:
        """Wait for the result; ``None`` if it takes too long."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_done, _WAIT_S)
            self._is_abandoned = not self.is_done
            return self._variables


class EnvironReader:
    """Reader of :data:`VARIABLES` of a process, without a long wait; for one thread."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Start a thread: at a kill there may be no memory for one."""
        self._proc = proc
        self._requests: queue.SimpleQueue[_Read] = queue.SimpleQueue()
        self._blocked: list[_Read] = []
        self._has_thread = False
        self._ensure_thread()

    def read(self, pid: int, cgroup_path: str = "") -> dict[str, str]:
        """Return the variables of ``pid``; empty if they are not readable at once.

        Reads that block are limited for each holder of a ``cgroup_path``, and in all.
        """
        holder = find_holder(cgroup_path)
        self._blocked = [read for read in self._blocked if not read.is_done]
        of_holder = sum(read.holder == holder for read in self._blocked)
        if len(self._blocked) >= _MAX_BLOCKED or of_holder >= _MAX_BLOCKED_OF_HOLDER:
            return {}
        if not self._ensure_thread():
            return {}
        read = _Read(pid, holder)
        self._requests.put(read)
        variables = read.wait()
        if variables is None:
            self._blocked.append(read)
            self._has_thread = False
            self._ensure_thread()
        return variables or {}

    def _ensure_thread(self) -> bool:
        if not self._has_thread:
            # RuntimeError: no memory, or too many threads. The next kill tries again.
            with suppress(RuntimeError, MemoryError):
                threading.Thread(target=self._run, name="environ", daemon=True).start()
                self._has_thread = True
        return self._has_thread

    def _run(self) -> None:
        is_needed = True
        while is_needed:
            read = self._requests.get()
            variables: dict[str, str] = {}
            with suppress(MemoryError):
                text = ProcessDir(read.pid, self._proc).read_text("environ", _READ_BYTES)
                variables = select_variables(text) if text else {}
            # Another thread has replaced one that was waited for too long.
            is_needed = read.finish(variables)
