"""Scan /proc for the largest processes that the kernel could choose from.

A scan costs some 5 µs of CPU a process, and 45 µs more for each that may be among the largest.
So it runs after the kill is stored, for a limited time, and kills in quick succession share it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from heapq import heappush, heapreplace
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux import procfs
from otel_oom.linux.cgroupfs import CgroupMount, walk_cgroups
from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.oom_task import read_oom_task
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
_LIST_LIMIT_S: Final = 0.1
"""Time for the list of the host's processes, of 2 µs each."""
_LISTED_AT_ONCE: Final = 256
_LIMIT_S: Final = 0.1
"""Time for their upper bounds after that: without it, a host of 50,000 would have none read."""
_READ_LIMIT_S: Final = 0.2
"""Time for the largest ones after that: a process that ends meanwhile is replaced by the next."""
_SHARED_S: Final = 0.2
_DUTY: Final = 10
"""A scan is shared for this many times its duration at least."""

_KTHREADD: Final = 2
_MEMCG_DECISION: Final = "mem_cgroup_out_of_memory"


class ProcessScanner:
    """Scanner of processes, which shares each result for a moment."""

    def __init__(self, cgroups: CgroupMount | None, proc: Path = Path("/proc")) -> None:
        self.cgroups = cgroups
        self.proc = proc
        self._shared: dict[Memcg | None, tuple[float, TaskList]] = {}
        self._kernel_threads: frozenset[int] = frozenset()
        # In another PID namespace, /proc shows other processes than the kernel chose from.
        self._usable = ProcessLookup(proc).usable
        if self._usable:
            children = self._children_of_kthreadd()
            self._kernel_threads = frozenset(pid for pid in children if not self._max_bytes(pid))

    def add_tasks(self, kill: OomKill, *, swapped: bool) -> OomKill:
        """Return ``kill`` with the largest processes, see :meth:`scan`.

        If the kernel log has them, only their cgroups are added: that table is of the moment of the
        decision.
        """
        if kill.tasks:
            return replace(kill, tasks=self._add_cgroups(kill.tasks, kill))
        return replace(kill, tasks=self.scan(kill, swapped=swapped))

    def scan(self, kill: OomKill, *, swapped: bool) -> TaskList | None:
        """Return the largest living processes that the kernel could choose from.

        Args:
            kill: the kill, whose victim is not among them: reading its size could delay the
                release of its memory, see :class:`.ProcessDir`.
            swapped: whether the host's swap is in use.

        Returns:
            The processes now or, if another kill was just scanned, then; ``None`` where /proc or
            the cgroup is not readable.
        """
        domain = oom_domain(kill)
        if domain is None and _is_limited(kill):
            # Of an unknown cgroup. Those of the host include the victims of other kills.
            return None
        return self.scan_domain(domain, swapped=swapped, victim=kill.victim.tgid)

    def scan_domain(
        self, memcg: Memcg | None, *, swapped: bool, victim: int | None = None
    ) -> TaskList | None:
        """Return the largest processes of a cgroup, or of the host, as :meth:`scan`."""
        if not self._usable or (memcg and self.cgroups is None):
            return None
        started = time.monotonic()
        until, shared = self._shared.get(memcg, (0.0, None))
        if shared and started < until:
            return shared
        list_deadline = started + (_WALK_LIMIT_S if memcg else _LIST_LIMIT_S)
        pids = self._pids(memcg, list_deadline)
        if pids is None:
            return None
        pids.pop(victim or 0, None)
        listed = time.monotonic()
        tasks = self._largest(pids, listed + _LIMIT_S, swapped=swapped)
        skipped = max(tasks.skipped, int(listed > list_deadline))
        tasks = replace(tasks, memcg=memcg.path if memcg else None, skipped=skipped)
        self._shared.pop(memcg, None)
        if len(self._shared) >= _MAX_SHARED:
            del self._shared[next(iter(self._shared))]
        ended = time.monotonic()
        self._shared[memcg] = (ended + max(_SHARED_S, _DUTY * (ended - started)), tasks)
        return tasks

    def _pids(self, memcg: Memcg | None, deadline: float) -> dict[int, str | None] | None:
        """Return the processes, each with its cgroup if it is listed there."""
        if memcg is None:
            threads = self._kernel_threads.intersection(self._children_of_kthreadd())
            return dict.fromkeys(pid for pid in self._list_pids(deadline) if pid not in threads)
        root = self.cgroups.existing_folder(memcg) if self.cgroups else None
        if root is None:
            return None
        top, above = memcg.path.rstrip("/"), len(str(root))
        return {
            int(pid): top + str(folder)[above:] or "/"
            for folder in walk_cgroups(root, deadline)
            for pid in procfs.read_lines(f"{folder}/cgroup.procs", _PROCS_BYTES)
            if pid.isdecimal()
        }

    def _list_pids(self, deadline: float) -> Iterator[int]:
        """Yield the processes of the host until the deadline, one batch at least."""
        # Not os.listdir(), which lists all before it returns.
        with os.scandir(self.proc) as entries:
            names = (entry.name for entry in entries if entry.name.isdecimal())
            while batch := [*islice(names, _LISTED_AT_ONCE)]:
                yield from map(int, batch)
                if time.monotonic() > deadline:
                    return

    def _children_of_kthreadd(self) -> list[int]:
        """Return kernel threads, and programs that the kernel has run.

        Such a program (a core dump handler) has memory. So a child is skipped only if it had
        none when this agent started, and still is a child of kthreadd.
        """
        path = f"{self.proc}/{_KTHREADD}/task/{_KTHREADD}/children"
        lines = procfs.read_lines(path, _PROCS_BYTES)
        return [int(pid) for line in lines for pid in line.split(" ") if pid.isdecimal()]

    def _largest(
        self, pids: Mapping[int, str | None], deadline: float, *, swapped: bool
    ) -> TaskList:
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
            task = read_oom_task(ProcessDir(pid, self.proc), pid)
            if task is None:
                continue
            if not full:
                heappush(heap, (task.total_bytes, pid, task))
            elif task.total_bytes > heap[0][0]:
                heapreplace(heap, (task.total_bytes, pid, task))
        largest = tuple(
            self._with_cgroup(task, pids[pid]) for _, pid, task in sorted(heap, reverse=True)
        )
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

    def _add_cgroups(self, listed: TaskList, kill: OomKill) -> TaskList:
        """Return the kernel's list, with the cgroup of each process that still is the same."""
        if not self._usable:
            return listed
        return replace(
            listed, largest=tuple(self._add_cgroup(task, kill) for task in listed.largest)
        )

    def _add_cgroup(self, task: OomTask, kill: OomKill) -> OomTask:
        if task.tgid == kill.victim.tgid:
            return replace(task, memcg=kill.memcg.path if kill.memcg else None)
        process = ProcessDir(task.tgid, self.proc)
        path = memory_cgroup_path(process.read_text("cgroup") or "")
        # Read last: a process that has the name now had the cgroup.
        comm = process.read_comm()
        return replace(task, memcg=path) if comm == task.comm else task

    def _with_cgroup(self, task: OomTask, listed: str | None) -> OomTask:
        process = ProcessDir(task.tgid, self.proc)
        path = memory_cgroup_path(process.read_text("cgroup") or "")
        # In cgroup v1 a process is in the root from its exit on (cgroup_exit()).
        is_lost = path in {None, "/"} and listed is not None
        return replace(
            task,
            score_adj=process.read_number("oom_score_adj"),
            memcg=listed if is_lost else path,
        )


def oom_domain(kill: OomKill) -> Memcg | None:
    """Return the cgroup that the kernel chose in; ``None`` for the host.

    If the cgroup whose limit was hit is unknown, it is the victim's own.
    """
    decision = kill.decision
    if decision and decision.memcg:
        return decision.memcg
    return kill.memcg if _is_limited(kill) else None


def _is_limited(kill: OomKill) -> bool:
    """Return whether the limit of a cgroup was hit."""
    if kill.decision is not None and kill.decision.constraint == "memcg":
        return True
    return any(function_name(frame) == _MEMCG_DECISION for frame in kill.stack)
