"""Scan /proc for the largest processes that the kernel could choose from.

A scan costs some 5 µs of CPU a process, and 45 µs more for each that may be among the largest.
So it runs after the kill is stored, for a limited time, and kills in quick succession share it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from heapq import heappush, heapreplace
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux import procfs
from otel_oom.linux.cgroupfs import CgroupMount, walk_cgroups
from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.process import ProcessDir, memory_cgroup_path
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.event_base import function_name
from otel_oom.model.events import OomKill
from otel_oom.model.types import Memcg, OomTask, TaskList
from otel_oom.model.units import PAGE_BYTES

MAX_OTHERS: Final = 10
"""Processes that are reported beside the victim."""

_MAX_SHARED: Final = 64
_STATM_BYTES: Final = 256
_PROCS_BYTES: Final = 1 << 18

_WALK_LIMIT_S: Final = 0.05
"""Time for the walk over the cgroups, of which a tenant may have made very many."""
_LIMIT_S: Final = 0.1
_READ_LIMIT_S: Final = 0.2
"""Time for the largest ones after that: a process that ends meanwhile is replaced by the next."""
_SHARED_S: Final = 0.2
_DUTY: Final = 10
"""A scan is shared for this many times its duration at least."""

_KTHREADD: Final = 2
_MEMCG_DECISION: Final = "mem_cgroup_out_of_memory"


@dataclass(slots=True)
class ProcessScanner:
    """Scanner of processes, which shares each result for a moment."""

    cgroups: CgroupMount | None
    proc: Path = Path("/proc")
    _usable: bool = field(init=False)
    _kernel_threads: frozenset[int] = field(init=False, default=frozenset())
    _shared: dict[Memcg | None, tuple[float, TaskList]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # In another PID namespace, /proc shows other processes than the kernel chose from.
        self._usable = ProcessLookup(self.proc).usable
        if self._usable:
            children = self._children_of_kthreadd()
            self._kernel_threads = frozenset(pid for pid in children if not self._max_bytes(pid))

    def add_tasks(self, kill: OomKill, *, swapped: bool) -> OomKill:
        """Return ``kill`` with the largest processes, see :meth:`scan`.

        If the kernel log has them, the scan adds their cgroups: that table is of the moment of the
        decision.
        """
        scanned = self.scan(kill, swapped=swapped)
        return replace(kill, tasks=_with_cgroups(kill.tasks, scanned) if kill.tasks else scanned)

    def scan(self, kill: OomKill, *, swapped: bool) -> TaskList | None:
        """Return the largest living processes that the kernel could choose from.

        Args:
            kill: the kill, whose victim may be among them.
            swapped: whether the host's swap is in use.

        Returns:
            The processes now or, if another kill was just scanned, then; ``None`` where /proc or
            the cgroup is not readable.
        """
        memcg = oom_domain(kill)
        if not self._usable or (memcg and self.cgroups is None):
            return None
        started = time.monotonic()
        until, shared = self._shared.get(memcg, (0.0, None))
        if shared and started < until:
            return shared
        pids = self._pids(memcg, started + _WALK_LIMIT_S)
        if pids is None:
            return None
        is_cut = memcg is not None and time.monotonic() > started + _WALK_LIMIT_S
        tasks = self._largest(pids, started + _LIMIT_S, swapped=swapped)
        skipped = max(tasks.skipped, int(is_cut))
        tasks = replace(tasks, memcg=memcg.path if memcg else None, skipped=skipped)
        self._shared.pop(memcg, None)
        if len(self._shared) >= _MAX_SHARED:
            del self._shared[next(iter(self._shared))]
        ended = time.monotonic()
        self._shared[memcg] = (ended + max(_SHARED_S, _DUTY * (ended - started)), tasks)
        return tasks

    def _pids(self, memcg: Memcg | None, deadline: float) -> list[int] | None:
        if memcg is None:
            pids = [int(name) for name in os.listdir(self.proc) if name.isdecimal()]  # noqa: PTH208  names are enough
            threads = self._kernel_threads.intersection(self._children_of_kthreadd())
            return [pid for pid in pids if pid not in threads]
        root = self.cgroups.existing_folder(memcg) if self.cgroups else None
        if root is None:
            return None
        lists = (
            procfs.read_lines(f"{folder}/cgroup.procs", _PROCS_BYTES)
            for folder in walk_cgroups(root, deadline)
        )
        return [int(pid) for pids in lists for pid in pids if pid.isdecimal()]

    def _children_of_kthreadd(self) -> list[int]:
        """Return kernel threads, and programs that the kernel has run.

        Such a program (a core dump handler) has memory. So a child is skipped only if it had
        none when this agent started, and still is a child of kthreadd.
        """
        path = f"{self.proc}/{_KTHREADD}/task/{_KTHREADD}/children"
        lines = procfs.read_lines(path, _PROCS_BYTES)
        return [int(pid) for line in lines for pid in line.split(" ") if pid.isdecimal()]

    def _largest(self, pids: list[int], deadline: float, *, swapped: bool) -> TaskList:
        """Return the largest of some processes.

        A cheap file gives an upper bound of each. The exact sizes are read in descending order of
        the bounds, until no bound exceeds the sizes found.
        """
        scan_ns = boottime_ns()
        bounds: list[tuple[int, int]] = []
        count = 0
        for pid in pids:
            if time.monotonic() > deadline:
                break
            count += 1
            bound = self._max_bytes(pid, swapped=swapped)
            if bound:
                bounds.append((bound, pid))
        bounds.sort(reverse=True)
        heap: list[tuple[int, int, OomTask]] = []
        for bound, pid in bounds:
            full = len(heap) > MAX_OTHERS
            limit = deadline if full else deadline + _READ_LIMIT_S
            if (full and bound <= heap[0][0]) or time.monotonic() > limit:
                break
            task = self._read_task(pid)
            if task is None:
                continue
            if not full:
                heappush(heap, (task.total_bytes, pid, task))
            elif task.total_bytes > heap[0][0]:
                heapreplace(heap, (task.total_bytes, pid, task))
        largest = tuple(self._with_cgroup(task) for _, _, task in sorted(heap, reverse=True))
        return TaskList(None, scan_ns, count, len(pids) - count, largest)

    def _max_bytes(self, pid: int, *, swapped: bool = False) -> int:
        """Return an upper bound of a process's memory without page tables; 0 if it has none.

        It is the resident memory and, if swap is in use, all data, which may be swapped out
        (proc_pid_statm(5)). Data that became read-only later is not in it.
        """
        # Neither a Path nor text: either takes as long as the kernel.
        try:
            descriptor = os.open(f"{self.proc}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return 0
        try:
            words = os.read(descriptor, _STATM_BYTES).split()
            return (int(words[1]) + (int(words[5]) if swapped else 0)) * PAGE_BYTES
        except (OSError, ValueError, IndexError):
            return 0
        finally:
            os.close(descriptor)

    def _read_task(self, pid: int) -> OomTask | None:
        status = ProcessDir(pid, self.proc).read_status()
        if status is None or not (status.resident or status.swap):
            return None
        return OomTask(
            tgid=pid,
            comm=status.comm,
            resident=status.resident,
            swap=status.swap,
            page_tables=status.page_tables,
            uid=status.uid,
        )

    def _with_cgroup(self, task: OomTask) -> OomTask:
        process = ProcessDir(task.tgid, self.proc)
        return replace(
            task,
            score_adj=process.read_number("oom_score_adj"),
            memcg=memory_cgroup_path(process.read_text("cgroup") or ""),
        )


def _with_cgroups(listed: TaskList, scanned: TaskList | None) -> TaskList:
    tasks = scanned.largest if scanned else ()
    paths = {(task.tgid, task.comm): task.memcg for task in tasks}
    largest = tuple(
        replace(task, memcg=paths.get((task.tgid, task.comm))) for task in listed.largest
    )
    return replace(listed, largest=largest)


def oom_domain(kill: OomKill) -> Memcg | None:
    """Return the cgroup that the kernel chose in; ``None`` for the host.

    If the cgroup whose limit was hit is unknown, it is the victim's own.
    """
    decision = kill.decision
    if decision and decision.memcg:
        return decision.memcg
    constrained = decision is not None and decision.constraint == "memcg"
    if constrained or any(function_name(frame) == _MEMCG_DECISION for frame in kill.stack):
        return kill.memcg
    return None
