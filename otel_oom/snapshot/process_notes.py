"""Notes of what large processes were started with, taken long before they can be victims.

The memory of a victim that another task's allocation kills is mostly gone before it can be read.
So a thread scans /proc every few seconds. It reads each large process once, and keeps the allowed
part. An execve(2) keeps pid and start, but not the environment: so each scan compares the addresses
that it changes.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.process import ProcessDir, ProcessStat, memory_cgroup_path
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.types import Task
from otel_oom.model.units import NS_PER_S, PAGE_BYTES
from otel_oom.snapshot.environ import EnvironReader, VictimText

_MIN_BYTES: Final = 8 << 20
_MIN_AGE_NS: Final = 2 * NS_PER_S
"""A younger one may be a runtime that is about to execute the program of a container."""
_MAX_NOTES: Final = 2048
_FIRST_S: Final = 2.0
_INTERVAL_S: Final = 10.0
_DUTY: Final = 2000
"""A scan is repeated after this many times its CPU time at least: 0.05 % of a core."""
_BATCH: Final = 32
"""Processes between two pauses: a kill waits for no scan."""
_PAUSE_S: Final = 0.005
_SMALL_SCANS: Final = 4
"""A process that was small is checked again in one of so many scans."""
_LATE: Final = 1.5
"""A scan may take half of its interval, beyond which its checks are out of date."""
_READ_S: Final = 0.1
"""Longest wait for one process, which is tried again by a later scan."""
_STATM_BYTES: Final = 256


class _Note(Struct):
    start_ticks: int
    layout: tuple[str, ...]
    text: VictimText
    checked_ns: int
    """When the process last had this layout, by CLOCK_BOOTTIME."""

    def is_of(self, stat: ProcessStat) -> bool:
        """Return whether the process has executed no other program since."""
        return (self.start_ticks, self.layout) == (stat.start_ticks, stat.layout)


class ProcessNotes:
    """The notes, and the thread that takes them."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._notes: dict[int, _Note] = {}
        self._small: set[int] = set()
        self._scans = 0
        self._interval_s = _INTERVAL_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notes", daemon=True)

    def start(self) -> None:
        """Start to scan, unless /proc shows other processes than the kernel.

        Without memory for a thread, there are no notes.
        """
        if ProcessLookup(self._proc).usable:
            with suppress(RuntimeError, MemoryError):
                self._thread.start()

    def close(self) -> None:
        """End the thread; it is not waited for."""
        self._stop.set()

    def find(
        self, task: Task, stat: ProcessStat | None, latest_start_ns: int | None = None
    ) -> VictimText | None:
        """Return the note of a process, if it is of the same start and program.

        ``latest_start_ns`` limits an unknown start. Where its ``stat`` shows the program no more,
        the check of the last scan counts.
        """
        note = self._notes.get(task.tgid or 0)
        if note is None:
            return None
        if task.start_boottime_ns is None:
            if latest_start_ns is None or latest_start_ns > note.checked_ns:
                return None
        elif note.start_ticks != task.start_boottime_ns * os.sysconf("SC_CLK_TCK") // NS_PER_S:
            return None
        if stat and stat.start_ticks == note.start_ticks and stat.layout:
            return note.text if note.is_of(stat) else None
        max_age_ns = int(_LATE * self._interval_s * NS_PER_S)
        return note.text if boottime_ns() - note.checked_ns <= max_age_ns else None

    def _run(self) -> None:
        wait_s = _FIRST_S
        with closing(EnvironReader(self._proc, _READ_S)) as reader:
            while not self._stop.wait(wait_s):
                started = time.thread_time()
                # Memory is short before a kill, and this thread must outlast that.
                with suppress(OSError, MemoryError):
                    self.scan(reader)
                wait_s = max(_INTERVAL_S, _DUTY * (time.thread_time() - started))
                self._interval_s = wait_s

    def scan(self, reader: EnvironReader) -> None:
        """Note each large process that is new, and forget other programs and the dead."""
        self._scans += 1
        pids = [int(name) for name in os.listdir(self._proc) if name.isdecimal()]  # noqa: PTH208  names are enough
        for gone in self._notes.keys() - {*pids}:
            del self._notes[gone]
        self._small.intersection_update(pids)
        for count, pid in enumerate(pids, 1):
            if count % _BATCH == 0 and self._stop.wait(_PAUSE_S):
                return
            if not self._is_noted(pid) and self._is_due(pid):
                if self._is_large(pid):
                    self._note(pid, reader)
                else:
                    self._small.add(pid)

    def _is_due(self, pid: int) -> bool:
        return pid not in self._small or pid % _SMALL_SCANS == self._scans % _SMALL_SCANS

    def _is_noted(self, pid: int) -> bool:
        note = self._notes.get(pid)
        if note is None:
            return False
        checked_ns = boottime_ns()
        stat = ProcessDir(pid, self._proc).read_stat()
        if stat and note.is_of(stat):
            note.checked_ns = checked_ns
        elif stat and (stat.layout or stat.start_ticks != note.start_ticks):
            del self._notes[pid]
            return False
        # Without its memory it is about to end, and can be a victim whose kill comes now.
        return True

    def _note(self, pid: int, reader: EnvironReader) -> None:
        self._small.discard(pid)
        process = ProcessDir(pid, self._proc)
        # Before the environment: a program that is executed between the two makes the note void.
        checked_ns, stat = boottime_ns(), process.read_stat()
        if stat is None or stat.start_ticks is None or stat.start_boottime_ns is None:
            return
        if not stat.layout or checked_ns - stat.start_boottime_ns < _MIN_AGE_NS:
            return
        path = memory_cgroup_path(process.read_text("cgroup") or "")
        text = reader.read(pid, path or "")
        if not text.is_whole:
            return
        self._notes[pid] = _Note(stat.start_ticks, stat.layout, text, checked_ns)
        while len(self._notes) > _MAX_NOTES:
            del self._notes[next(iter(self._notes))]

    def _is_large(self, pid: int) -> bool:
        # As for the scanner of a kill: neither a Path nor text.
        try:
            descriptor = os.open(f"{self._proc}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return int(os.read(descriptor, _STATM_BYTES).split()[1]) * PAGE_BYTES >= _MIN_BYTES
        except (OSError, ValueError, IndexError):
            return False
        finally:
            os.close(descriptor)
