"""The texts of a victim that name its service, and the memory settings of its runtime.

Of the environment only the two ``OTEL_*`` variables are kept that hold the service, and those that
:mod:`otel_oom.linux.runtimes.settings` allows. Environment and command line are in the process's
own memory. Reading them takes the lock of its address space, which a process that hangs in the
kernel may hold for ever, or waits for a page that the victim's owner serves. So a thread reads
them. A read that takes longer than 5 ms is abandoned with its thread, and another thread serves the
next victim.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.linux.cgroup_holder import find_holder
from otel_oom.linux.process import ProcessDir
from otel_oom.linux.runtimes import settings
from otel_oom.linux.start_settings import select_variables
from otel_oom.model.runtime import RuntimeSettings
from otel_oom.snapshot.runtime import read_runtime

_LOG = logging.getLogger(__name__)

_READ_BYTES: Final = 65536
_WAIT_S: Final = 0.005
_MAX_BLOCKED: Final = 16
"""Threads that wait for victims at the same time."""
_MAX_BLOCKED_OF_HOLDER: Final = 2
"""The victims of one tenant must not use them all."""


class VictimText(Struct, frozen=True):
    """The variables that name a victim, and its runtime; ``is_whole``: nothing took too long."""

    variables: Mapping[str, str] = {}
    runtime: RuntimeSettings | None = None
    is_whole: bool = False


class _Read:
    """A read of one process, by one thread for another."""

    def __init__(self, pid: int, holder: str, executable: str | None) -> None:
        self.pid = pid
        self.holder = holder
        self.executable = executable
        self.is_done = False
        self._changed = threading.Condition()
        self._text = VictimText()
        self._is_abandoned = False

    def publish(self, text: VictimText) -> None:
        """Set a part of the result, which counts if the rest takes too long."""
        with self._changed:
            self._text = text

    def finish(self) -> bool:
        """End the read; return whether somebody waits for it."""
        with self._changed:
            self.is_done = True
            self._changed.notify()
            return not self._is_abandoned

    def wait(self, wait_s: float) -> VictimText:
        """Wait for the result; return what there is of it if it takes too long."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_done, wait_s)
            self._is_abandoned = not self.is_done
            return self._text


class EnvironReader:
    """Reader of the :class:`VictimText` of a process, without a long wait; for one thread."""

    def __init__(self, proc: Path = Path("/proc"), wait_s: float = _WAIT_S) -> None:
        """Wait ``wait_s`` for a read; its thread starts at the first one, or by :meth:`start`."""
        self._proc = proc
        self._wait_s = wait_s
        self._requests: queue.SimpleQueue[_Read | None] = queue.SimpleQueue()
        self._blocked: list[_Read] = []
        self._has_thread = False
        self._has_failed = False

    def start(self) -> None:
        """Start the thread: at a kill there may be no memory for one."""
        self._ensure_thread()

    def read(self, pid: int, cgroup_path: str = "", executable: str | None = None) -> VictimText:
        """Return the text of ``pid``; empty where it is not readable at once.

        Reads that block are limited for each holder of a ``cgroup_path``, and in all.
        ``executable`` is the path of the program, where it is known.
        """
        holder = find_holder(cgroup_path)
        self._blocked = [read for read in self._blocked if not read.is_done]
        of_holder = sum(read.holder == holder for read in self._blocked)
        if len(self._blocked) >= _MAX_BLOCKED or of_holder >= _MAX_BLOCKED_OF_HOLDER:
            return VictimText()
        if not self._ensure_thread():
            return VictimText()
        read = _Read(pid, holder, executable)
        self._requests.put(read)
        text = read.wait(self._wait_s)
        if not read.is_done:
            self._blocked.append(read)
            self._has_thread = False
            self._ensure_thread()
        return text

    def close(self) -> None:
        """End the thread once it has nothing to read; it is not waited for."""
        self._requests.put(None)

    def _ensure_thread(self) -> bool:
        if not self._has_thread:
            # RuntimeError: no memory, or too many threads. The next kill tries again.
            with suppress(RuntimeError, MemoryError):
                threading.Thread(target=self._run, name="environ", daemon=True).start()
                self._has_thread = True
        return self._has_thread

    def _run(self) -> None:
        is_needed = True
        while is_needed and (read := self._requests.get()):
            try:
                # ValueError, IndexError: of a parser, by a file that its owner made up.
                with suppress(MemoryError, ValueError, IndexError):
                    self._read_text(read)
            except Exception as error:  # noqa: BLE001  whatever it was, the next read needs a thread
                read.publish(VictimText())
                self._log_failure(error)
            finally:
                # Another thread has replaced one that was waited for too long.
                is_needed = read.finish()

    def _log_failure(self, error: Exception) -> None:
        if self._has_failed:
            return
        self._has_failed = True
        # Only its type: the message may hold a part of the environment.
        with suppress(Exception):
            _LOG.error(
                "Victim's environment was not read, further failures are not logged: %s",
                type(error).__name__,
            )

    def _read_text(self, read: _Read) -> None:
        process = ProcessDir(read.pid, self._proc)
        content = process.read_text("environ", _READ_BYTES) or ""
        # An entry without a NUL at its end was cut by the bound of the read.
        *environ, cut = content.split("\0")
        text = VictimText(select_variables(environ))
        read.publish(text)
        allowed = select_variables(environ, settings.VARIABLES)
        runtime = read_runtime(process, allowed, read.executable)
        if runtime and cut:
            runtime = replace(runtime, is_complete=False)
        read.publish(replace(text, runtime=runtime, is_whole=bool(environ)))
