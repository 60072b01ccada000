"""Threads that the kernel's log names, into their processes, while /proc still has them.

Every read is one bounded read of a small file. A thread is taken for the one that was logged only
if it bears the same name: its id may be another's by now.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs as proc_file
from otel_oom.model.types import Task

_READ_BYTES: Final = 4096
_INITIAL_PID_NS: Final = 0xEFFFFFFC
"""PROC_PID_INIT_INO (include/linux/proc_ns.h): the inode of the initial PID namespace."""
_NS_PER_S: Final = 1_000_000_000
_ESCAPE: Final = re.compile(r"\\([n\\])")
"""How /proc/PID/status writes a newline and a backslash in a name."""


class Processes:
    """The processes of a /proc, by the kernel's own numbers."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Look in ``proc``; nothing is found if it counts in another PID namespace."""
        self._proc = proc
        self.usable = _inode(proc / "self/ns/pid") == _INITIAL_PID_NS

    def of_thread(self, tid: int, comm: str | None) -> Task | None:
        """The process of a thread with that name; any name will do for ``None``.

        Its start is exact to a clock tick (10 ms on most machines), rounded down. What can't be
        read any more is unknown, and so is what /proc does not say.
        """
        if not self.usable:
            return None
        status = _status(_read(self._proc / str(tid) / "status"))
        tgid = _first(status.get("Tgid"))
        name = name_of(status.get("Name", ""))
        # 0 is what a thread has that the kernel is just letting go of (task_tgid_nr_ns()).
        if not tgid or not _bears(name, comm):
            return None
        folder = self._proc / str(tgid)
        return Task(
            tgid=tgid,
            tid=tid,
            ppid=_first(status.get("PPid")) or None,
            ns_tgid=_last(status.get("NStgid")) or None,
            uid=_first(status.get("Uid")),
            gid=_first(status.get("Gid")),
            pid_ns=_inode(folder / "ns/pid"),
            mnt_ns=_inode(folder / "ns/mnt"),
            # A worker of the kernel has what it works on behind its name here.
            comm=name if comm is None else comm,
            started_ns=self.started_ns(tgid),
        )

    def started_ns(self, tgid: int) -> int | None:
        """When a process was started, on CLOCK_BOOTTIME, in nanoseconds, to the tick below."""
        stat = self._stat(tgid)
        return None if stat is None else _started_ns(stat)

    def exit_code(self, tgid: int, started_ns: int) -> int | None:
        """How the process of that id and start has ended, as wait(2) gives it.

        ``None`` when its parent has waited for it, or where that may not be seen.
        """
        stat = self._stat(tgid)
        if stat is None or _started_ns(stat) != started_ns:
            return None
        return proc_file.exit_code(stat)

    def _stat(self, tgid: int) -> str | None:
        return _read(self._proc / str(tgid) / "stat")


def _started_ns(stat: str) -> int | None:
    ticks = proc_file.start_ticks(stat)
    return None if ticks is None else ticks * _NS_PER_S // os.sysconf("SC_CLK_TCK")


def _bears(name: str, comm: str | None) -> bool:
    # /proc shows a worker of the kernel with what it works on behind its name.
    return comm is None or name == comm or (comm.startswith("kworker/") and name.startswith(comm))


def _status(text: str | None) -> dict[str, str]:
    pairs = (line.partition(":\t") for line in (text or "").split("\n"))
    return {name: value for name, found, value in pairs if found}


def name_of(shown: str) -> str:
    """A name as it is, out of how /proc/PID/status shows it."""
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else "\\", shown)


def _first(value: str | None) -> int | None:
    words = (value or "").split()
    return int(words[0]) if words and words[0].isdecimal() else None


def _last(value: str | None) -> int | None:
    words = (value or "").split()
    return int(words[-1]) if words and words[-1].isdecimal() else None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _read(path: Path) -> str | None:
    return proc_file.read(path, _READ_BYTES)
