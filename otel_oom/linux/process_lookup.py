"""Look up threads that the kernel log names while /proc still has them.

A thread id may be reused. So a thread counts as the logged one only if it has the same name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from otel_oom.linux.dying_process import (
    DyingProcess,
    find_tgid,
    has_memory,
    is_same_process,
    read_dying_process,
)
from otel_oom.linux.process import ProcessDir
from otel_oom.model.events import OomKill
from otel_oom.model.types import Task

_INITIAL_PID_NS: Final = 0xEFFFFFFC
"""PROC_PID_INIT_INO (include/linux/proc_ns.h): the inode of the initial PID namespace."""


class ProcessLookup:
    """The processes of a /proc, by ids of the initial PID namespace."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Use ``proc``, which finds nothing if it is mounted for another PID namespace."""
        self._proc = proc
        self.usable = ProcessDir("self", proc).namespace_inode("pid") == _INITIAL_PID_NS

    def by_thread(self, tid: int, comm: str | None) -> Task | None:
        """Return the process of a thread with that name; ``None`` accepts any name.

        Its start is exact to a clock tick (10 ms on most machines), rounded down. Values that are
        not readable any more, or not in /proc, are ``None``.
        """
        status = ProcessDir(tid, self._proc).read_status() if self.usable else None
        # A thread that the kernel is releasing has tgid 0 (task_tgid_nr_ns()).
        if status is None or not status.tgid or not _is_named(status.comm, comm):
            return None
        process = ProcessDir(status.tgid, self._proc)
        return Task(
            tgid=status.tgid,
            tid=tid,
            ppid=status.ppid or None,
            namespaced_pid=status.namespaced_pid or None,
            uid=status.uid,
            gid=status.gid,
            pid_ns=process.namespace_inode("pid"),
            mnt_ns=process.namespace_inode("mnt"),
            # The shown name of a kworker is longer than the logged one.
            comm=status.comm if comm is None else comm,
            start_boottime_ns=self.start_boottime_ns(status.tgid),
        )

    def by_dying_thread(self, tid: int, comm: str | None) -> DyingProcess | None:
        """Return the same, of a thread that may be about to exit: without its memory.

        Once that is gone, all is known. Until then, the start is unknown.
        """
        if not self.usable:
            return None
        thread = ProcessDir(tid, self._proc)
        tgid = find_tgid(thread)
        if not any(has_memory(ProcessDir(id_, self._proc)) for id_ in {tid, tgid or tid}):
            task = self.by_thread(tid, comm)
            return DyingProcess(task, "", task.start_boottime_ns or 0) if task else None
        shown = thread.read_comm()
        if tgid is None or not _is_named(shown, comm):
            return None
        return read_dying_process(tgid, tid, shown if comm is None else comm, self._proc)

    def start_boottime_ns(self, tgid: int) -> int | None:
        """Return the start of a process on CLOCK_BOOTTIME, in nanoseconds, to the tick below."""
        stat = ProcessDir(tgid, self._proc).read_stat()
        return stat.start_boottime_ns if stat else None

    def exit_code(self, tgid: int) -> int | None:
        """Return how a process ended, as wait(2) returns it.

        ``None`` once its parent has waited for it, or where this process may not see it.
        """
        stat = ProcessDir(tgid, self._proc).read_stat()
        return stat.exit_code if stat else None

    def is_victim(self, kill: OomKill) -> bool:
        """Return whether the process that has the victim's id now is the victim."""
        process = ProcessDir(str(kill.victim.tgid), self._proc)
        cgroup = process.read_text("cgroup")
        return self.usable and is_same_process(
            process, kill.victim, kill.memcg, kill.boottime_ns, cgroup
        )


def _is_named(shown: str, comm: str | None) -> bool:
    # /proc appends a kworker's current work to its name (wq_worker_comm()).
    return comm is None or shown == comm or (comm.startswith("kworker/") and shown.startswith(comm))
