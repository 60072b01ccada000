"""Looks for the largest processes, as ``top`` would.

Looking at each process costs with their number: some 5 µs of CPU for each, and 45 for each of the
few that may be among the largest. So it is done after the kill is on the disk, for a while at most,
and what was seen is shared by the kills that follow at once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappush, heapreplace
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux import procfs as proc_file
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.process import Processes, name_of
from otel_oom.model.candidates import OomTask, TaskList
from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Memcg
from otel_oom.snapshot.host_stats import settings
from otel_oom.snapshot.scope import oom_domain

MOST: Final = 10
"""So many are told, beside the victim."""

_MOST_FOLDERS: Final = 4096
_MOST_SHARED: Final = 64
_READ_BYTES: Final = 4096
_STATM_BYTES: Final = 256
_PROCS_BYTES: Final = 1 << 18

_LIMIT_S: Final = 0.1
_SHARED_S: Final = 0.2
_DUTY: Final = 10
"""What took long is not done again before so many times as long."""

_KB: Final = 1024
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_KTHREADD: Final = 2
_STATUS: Final = re.compile(r"^(Name|VmRSS|VmSwap|VmPTE|Uid):[\t ]*(.*)$", re.MULTILINE)


@dataclass(slots=True)
class ProcessScanner:
    """Looks at processes, and remembers for a moment what it saw."""

    files: CgroupMount | None
    proc: Path = Path("/proc")
    _folder: str = field(init=False)
    _usable: bool = field(init=False)
    _threads: frozenset[int] = field(init=False, default=frozenset())
    _shared: dict[Memcg | None, tuple[float, TaskList]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._folder = str(self.proc)
        # In a PID namespace of its own it would show others than the kernel weighed.
        self._usable = Processes(self.proc).usable
        if self._usable:
            self._threads = frozenset(pid for pid in self._of_kthreadd() if not self._most(pid))

    def complete(self, kill: OomKill, seen: Snapshot) -> Snapshot:
        """``seen`` and what takes longer: who used the memory, and the settings in force."""
        swapped = bool(seen.host and seen.host.swapped)
        candidates = self.look(kill, swapped=swapped)
        return replace(seen, settings=settings(self.proc), candidates=candidates)

    def look(self, kill: OomKill, *, swapped: bool) -> TaskList | None:
        """The largest processes that the kernel could choose from, but for the dead.

        Args:
            kill: of which the victim may be among them.
            swapped: whether the host's swap is in use.

        Returns:
            What was seen now or, in a storm, just before; ``None`` where it can't be seen.
        """
        memcg = oom_domain(kill)
        if not self._usable or (memcg and self.files is None):
            return None
        now = time.monotonic()
        until, shared = self._shared.get(memcg, (0.0, None))
        if shared and now < until:
            return shared
        pids = self._pids(memcg)
        if pids is None:
            return None
        found = self._largest(pids, now + _LIMIT_S, swapped=swapped)
        found = replace(found, memcg=memcg.path if memcg else None)
        self._shared.pop(memcg, None)
        if len(self._shared) >= _MOST_SHARED:
            del self._shared[next(iter(self._shared))]
        after = time.monotonic()
        self._shared[memcg] = (after + max(_SHARED_S, _DUTY * (after - now)), found)
        return found

    def _pids(self, memcg: Memcg | None) -> list[int] | None:
        """The processes of the host, or of a cgroup and those below it."""
        if memcg is None:
            every = [int(name) for name in os.listdir(self.proc) if name.isdecimal()]  # noqa: PTH208  as below
            threads = self._threads.intersection(self._of_kthreadd())
            return [pid for pid in every if pid not in threads]
        folder = self.files.own_folder(memcg) if self.files else None
        if folder is None:
            return None
        lists = (proc_file.read_lines(one / "cgroup.procs", _PROCS_BYTES) for one in below(folder))
        return [int(pid) for pids in lists for pid in pids if pid.isdecimal()]

    def _of_kthreadd(self) -> list[int]:
        """The children of kthreadd: the kernel's threads, and programs that the kernel has run.

        Those programs (a handler of core dumps is one) have memory. So a thread is passed over
        only if it had none when this agent began, and is still a child of kthreadd's.
        """
        of = self.proc / f"{_KTHREADD}/task/{_KTHREADD}/children"
        return [int(pid) for line in proc_file.read_lines(of, _PROCS_BYTES) for pid in line.split()]

    def _largest(self, pids: list[int], deadline: float, *, swapped: bool) -> TaskList:
        """The largest of some processes.

        What each holds at most is had from a file that is cheap; what it does hold, beginning with
        the most, until no other can be larger than those that were found.
        """
        began = boottime_ns()
        most: list[tuple[int, int]] = []
        count = 0
        for pid in pids:
            if time.monotonic() > deadline:
                break
            count += 1
            held = self._most(pid, swapped=swapped)
            if held:
                most.append((held, pid))
        most.sort(reverse=True)
        found: list[tuple[int, int, OomTask]] = []
        for held, pid in most:
            enough = len(found) > MOST
            if enough and (held <= found[0][0] or time.monotonic() > deadline):
                break
            one = self._status(pid)
            if one is None:
                continue
            if not enough:
                heappush(found, (one.held, pid, one))
            elif one.held > found[0][0]:
                heapreplace(found, (one.held, pid, one))
        largest = tuple(self._placed(one) for _, _, one in sorted(found, reverse=True))
        return TaskList(None, began, count, len(pids) - count, largest)

    def _most(self, pid: int, *, swapped: bool = False) -> int:
        """What a process holds at most, in bytes, but for page tables; 0 for one without memory.

        That is what it has in memory and, where there is swap, all data that it could have in
        there (proc_pid_statm(5)): but for what it has made read-only since.
        """
        # Not by Path, nor as text: it takes as long as the kernel.
        try:
            descriptor = os.open(f"{self._folder}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return 0
        try:
            words = os.read(descriptor, _STATM_BYTES).split()
            return (int(words[1]) + (int(words[5]) if swapped else 0)) * _PAGE
        except (OSError, ValueError, IndexError):
            return 0
        finally:
            os.close(descriptor)

    def _status(self, pid: int) -> OomTask | None:
        """A process by its own account (proc_pid_status(5)); ``None`` for one without memory."""
        fields = dict(_STATUS.findall(self._read(pid, "status") or ""))
        resident, swap = _bytes(fields.get("VmRSS", "")), _bytes(fields.get("VmSwap", ""))
        if not resident and not swap:
            return None
        uid = fields.get("Uid", "").partition("\t")[0]
        return OomTask(
            tgid=pid,
            comm=name_of(fields.get("Name", "")),
            resident=resident,
            swap=swap,
            page_tables=_bytes(fields.get("VmPTE", "")),
            uid=int(uid) if uid.isdecimal() else None,
        )

    def _placed(self, one: OomTask) -> OomTask:
        """A process with its score and its cgroup."""
        score = (self._read(one.tgid, "oom_score_adj") or "").strip()
        return replace(
            one,
            score_adj=int(score) if score.removeprefix("-").isdecimal() else None,
            memcg=self._memcg(self._read(one.tgid, "cgroup") or ""),
        )

    def _memcg(self, cgroups: str) -> str | None:
        """The memory cgroup out of /proc/PID/cgroup (cgroups(7))."""
        for line in cgroups.splitlines():
            number, _, rest = line.partition(":")
            controllers, found, path = rest.partition(":")
            v1 = self.files is not None and self.files.v1
            if found and ("memory" in controllers.split(",") if v1 else number == "0"):
                return path
        return None

    def _read(self, pid: int, name: str) -> str | None:
        # Not by Path, which takes as long as the kernel.
        return proc_file.read(f"{self._folder}/{pid}/{name}", _READ_BYTES)


def _bytes(size: str) -> int:
    number = size.removesuffix(" kB")
    return int(number) * _KB if number.isdecimal() else 0


def below(folder: Path) -> Iterator[Path]:
    """A cgroup's folder and those of the cgroups in it, some thousands at most."""
    waiting, count = [folder], 0
    while waiting and count < _MOST_FOLDERS:
        here = waiting.pop()
        count += 1
        yield here
        try:
            with os.scandir(here) as entries:
                waiting += [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            continue
