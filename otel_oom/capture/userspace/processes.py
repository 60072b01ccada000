"""List the processes of a cgroup that a daemon is about to kill."""

from __future__ import annotations

import time
from heapq import nlargest
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux import clock, procfs
from otel_oom.linux.cgroupfs import CgroupMount, walk_cgroups
from otel_oom.linux.oom_task import read_oom_task
from otel_oom.linux.process import ProcessDir
from otel_oom.model.types import Memcg, OomTask, TaskList

_LIMIT_S: Final = 0.05
"""A busy host with thousands of processes: the rest is counted as skipped."""
_PROCS_BYTES: Final = 1 << 16
_MAX_PIDS: Final = 1 << 12
_MAX_LARGEST: Final = 64


def list_processes(
    cgroups: CgroupMount,
    path: str,
    proc: Path = Path("/proc"),
    before_ns: int | None = None,
    limit_s: float = _LIMIT_S,
) -> TaskList | None:
    """Return the processes with memory below a cgroup; ``None`` if there are none.

    ``before_ns`` omits those that started later, by CLOCK_BOOTTIME in nanoseconds. Their ids are
    right only in the initial PID namespace, where the caller runs. It takes about ``limit_s``
    seconds at most.
    """
    started_ns, deadline = clock.boottime_ns(), time.monotonic() + limit_s
    root = cgroups.existing_folder(Memcg(None, path))
    if root is None:
        return None
    pids: list[int] = []
    for folder in walk_cgroups(root, deadline):
        names = procfs.read_lines(f"{folder}/cgroup.procs", _PROCS_BYTES)
        pids.extend(int(name) for name in names if name.isdecimal())
    skipped = max(0, len(pids) - _MAX_PIDS)
    tasks: list[OomTask] = []
    for index, pid in enumerate(pids[:_MAX_PIDS]):
        if index >= _MAX_LARGEST and time.monotonic() > deadline:
            skipped += min(len(pids), _MAX_PIDS) - index
            break
        task = _read_task(ProcessDir(pid, proc), pid, before_ns)
        if task:
            tasks.append(task)
    if not tasks:
        return None
    largest = tuple(nlargest(_MAX_LARGEST, tasks, key=lambda task: task.total_bytes))
    return TaskList(path, started_ns, len(pids) - skipped, skipped, largest)


def _read_task(process: ProcessDir, pid: int, before_ns: int | None) -> OomTask | None:
    task = read_oom_task(process, pid)
    if task is None:
        return None
    if before_ns is not None:
        stat = process.read_stat()
        start_ns = stat.start_boottime_ns if stat else None
        if start_ns is None or start_ns > before_ns:
            return None
    return replace(task, score_adj=process.read_number("oom_score_adj"))
