"""Read a process that may be about to exit, without a reference to its memory.

``status`` and ``stat`` take one (get_task_mm()), see :class:`.ProcessDir`. ``exe`` does not, and is
absent once the memory is gone (get_task_exe_file(), kernel/fork.c): from then on both are harmless.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.linux.clock import boot_to_unix_offset_ns
from otel_oom.linux.pidfd import read_ids, read_namespaced_pids
from otel_oom.linux.process import ProcessDir, ProcessStat, shows_memory_cgroup
from otel_oom.model.types import Memcg, Task
from otel_oom.model.units import NS_PER_S

_COARSE_NS: Final = NS_PER_S // 50
"""Twice the granularity of the times of an inode (current_time())."""


class DyingProcess(Struct, frozen=True):
    """A process, its ``/proc/PID/cgroup``, and the latest time at which it can have started."""

    task: Task
    cgroup: str
    latest_start_ns: int


def has_memory(process: ProcessDir) -> bool:
    """Return whether a process may still have its memory; false once it is gone."""
    try:
        os.readlink(f"{process.path}/exe")  # noqa: PTH115  a Path takes longer than the kernel
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        # Of another user, to an agent without CAP_SYS_PTRACE.
        return True
    return True


def find_tgid(thread: ProcessDir) -> int | None:
    """Return the process of a thread: its first thread is listed first (proc_task_readdir())."""
    try:
        with os.scandir(f"{thread.path}/task") as entries:
            return int(next(entries).name)
    except (OSError, StopIteration, ValueError):
        return None


def latest_start_ns(process: ProcessDir) -> int | None:
    """Return a time on CLOCK_BOOTTIME at which a process existed already; ``None`` if it is gone.

    It is when somebody first looked at its folder: the kernel makes the inode then, and keeps it
    while the process lives and memory lasts (proc_pid_make_inode()).
    """
    try:
        made_ns = os.stat(process.path).st_ctime_ns  # noqa: PTH116  as above
    except OSError:
        return None
    return made_ns - boot_to_unix_offset_ns() + _COARSE_NS


def read_dying_process(tgid: int, tid: int, comm: str, proc: Path) -> DyingProcess | None:
    """Return a process that has its memory, as far as that is not needed; ``None`` if it is gone.

    Its start is unknown. Its parent and group are known from Linux 6.13 on, its pid in its own
    namespace from 5.3 on.
    """
    process, task = ProcessDir(tgid, proc), Task(tgid, tid, comm=comm)
    with _open_pidfd(tgid) as pidfd:
        started_ns, cgroup = latest_start_ns(process), process.read_text("cgroup") or ""
        pid_ns, mnt_ns = process.namespace_inode("pid"), process.namespace_inode("mnt")
        task = replace(task, pid_ns=pid_ns, mnt_ns=mnt_ns)
        if pidfd is not None:
            ids = read_ids(pidfd)
            if ids:
                task = replace(task, ppid=ids.ppid or None, uid=ids.uid, gid=ids.gid)
            # Read last: all of this was of the process, as it still exists.
            pids = read_namespaced_pids(pidfd)
            if not pids:
                return None
            task = replace(task, namespaced_pid=pids[-1])
    return None if started_ns is None else DyingProcess(task, cgroup, started_ns)


@contextmanager
def _open_pidfd(tgid: int) -> Iterator[int | None]:
    """Yield a pidfd; ``None`` where the process is gone, or before Linux 5.3."""
    try:
        pidfd = os.pidfd_open(tgid)
    except OSError:
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def is_same_process(
    process: ProcessDir, task: Task, memcg: Memcg | None, boottime_ns: int, cgroup: str | None
) -> bool:
    """Return whether a process is that of a kill's ``task``, not a later one of the same pid.

    It is by its memory cgroup, where no other tenant's process is. Else it is by its start, once
    that is known without its memory, or where there are no cgroups. Else it has the task's name,
    and existed before the kill. ``cgroup`` is the text of ``/proc/PID/cgroup``.
    """
    is_placed = memcg is not None and not memcg.path_cut
    if memcg and is_placed and shows_memory_cgroup(cgroup or "", memcg.path):
        return True
    is_limitless = memcg is None and task.start_boottime_ns is not None
    if is_limitless or not has_memory(process):
        return started_as(process.read_stat(), task, boottime_ns)
    if is_placed or task.comm not in {None, process.read_comm()}:
        return False
    started_ns = latest_start_ns(process)
    return started_ns is not None and started_ns <= boottime_ns


def started_as(stat: ProcessStat | None, task: Task, boottime_ns: int) -> bool:
    """Return whether a process has the start of ``task``; else its name, and an earlier start.

    A process that started before the kill, and still has the pid, had it at the kill.
    """
    if stat is None or stat.start_ticks is None:
        return False
    if task.start_boottime_ns is not None:
        return stat.has_start(task.start_boottime_ns)
    named = task.comm is None or stat.comm == task.comm
    return named and stat.start_ticks < boottime_ns * os.sysconf("SC_CLK_TCK") // NS_PER_S
