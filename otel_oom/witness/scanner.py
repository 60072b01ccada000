"""Looks for the largest processes, as ``top`` would.

Looking at each process costs with their number: some 7 µs of CPU for each, 15 where swap is in
use. So it is done after the kill is on the disk, for a while at most, and what was seen is shared
by the kills that follow at once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import nlargest
from pathlib import Path
from typing import Final

from otel_oom import proc as proc_file
from otel_oom.candidates import Candidate, Candidates
from otel_oom.capture.processes import Processes, name_of
from otel_oom.clock import boottime_ns
from otel_oom.event import OomKill
from otel_oom.facts import Memcg
from otel_oom.witness.candidates import scope
from otel_oom.witness.host import settings
from otel_oom.witness.memcg import MemcgFiles
from otel_oom.witness.seen import Witness

MOST: Final = 10
"""So many are told, beside the victim."""

_MOST_FOLDERS: Final = 4096
_MOST_SHARED: Final = 64
_FEW: Final = 64
"""So many processes are looked at one by one; of more, first for their resident memory alone."""
_READ_BYTES: Final = 4096
_PROCS_BYTES: Final = 1 << 18

_LIMIT_S: Final = 0.1
_SHARED_S: Final = 0.2
_DUTY: Final = 10
"""What took long is not done again before so many times as long."""

_KB: Final = 1024
_STATUS: Final = re.compile(r"^(Name|VmRSS|VmSwap|VmPTE|Uid):[\t ]*(.*)$", re.MULTILINE)


@dataclass(slots=True)
class Scanner:
    """Looks at processes, and remembers for a moment what it saw."""

    files: MemcgFiles | None
    proc: Path = Path("/proc")
    _usable: bool = field(init=False)
    _shared: dict[Memcg | None, tuple[float, Candidates]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # In a PID namespace of its own it would show others than the kernel weighed.
        self._usable = Processes(self.proc).usable

    def complete(self, kill: OomKill, seen: Witness) -> Witness:
        """``seen`` and what takes longer: who used the memory, and the settings in force."""
        swapped = bool(seen.host and seen.host.swapped)
        candidates = self.look(kill, swapped=swapped)
        return replace(seen, settings=settings(self.proc), candidates=candidates)

    def look(self, kill: OomKill, *, swapped: bool) -> Candidates | None:
        """The largest processes that the kernel could choose from, but for the dead.

        Args:
            kill: of which the victim may be among them.
            swapped: whether the host's swap is in use.

        Returns:
            What was seen now or, in a storm, just before; ``None`` where it can't be seen.
        """
        memcg = scope(kill)
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
            return [int(name) for name in os.listdir(self.proc) if name.isdecimal()]  # noqa: PTH208  as below
        folder = self.files.own_folder(memcg) if self.files else None
        if folder is None:
            return None
        lists = (proc_file.read_lines(one / "cgroup.procs", _PROCS_BYTES) for one in below(folder))
        return [int(pid) for pids in lists for pid in pids if pid.isdecimal()]

    def _largest(self, pids: list[int], deadline: float, *, swapped: bool) -> Candidates:
        """The largest of some processes, each seen whole or, of many, by its resident memory."""
        began = boottime_ns()
        whole = swapped or len(pids) <= _FEW
        seen: list[tuple[int, int]] = []
        count = 0
        for pid in pids:
            if time.monotonic() > deadline:
                break
            count += 1
            held = self._held(pid) if whole else self._resident(pid)
            if held:
                seen.append((held, pid))
        candidates = [self._candidate(pid) for _, pid in nlargest(MOST + 1, seen)]
        largest = sorted(filter(None, candidates), key=lambda one: one.held, reverse=True)
        return Candidates(None, began, count, len(pids) - count, tuple(largest))

    def _resident(self, pid: int) -> int:
        """What a process has in memory, in pages (proc_pid_statm(5)); 0 for none of its own."""
        words = (self._read(pid, "statm") or "").split()
        return int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0

    def _held(self, pid: int) -> int:
        status = self._status(pid)
        return status.held if status else 0

    def _status(self, pid: int) -> Candidate | None:
        """A process by its own account (proc_pid_status(5)); ``None`` for one without memory."""
        fields = dict(_STATUS.findall(self._read(pid, "status") or ""))
        resident, swap = _bytes(fields.get("VmRSS", "")), _bytes(fields.get("VmSwap", ""))
        if not resident and not swap:
            return None
        uid = fields.get("Uid", "").partition("\t")[0]
        return Candidate(
            tgid=pid,
            comm=name_of(fields.get("Name", "")),
            resident=resident,
            swap=swap,
            page_tables=_bytes(fields.get("VmPTE", "")),
            uid=int(uid) if uid.isdecimal() else None,
        )

    def _candidate(self, pid: int) -> Candidate | None:
        status = self._status(pid)
        if status is None:
            return None
        score = (self._read(pid, "oom_score_adj") or "").strip()
        return replace(
            status,
            score_adj=int(score) if score.removeprefix("-").isdecimal() else None,
            memcg=self._memcg(self._read(pid, "cgroup") or ""),
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
        return proc_file.read(f"{self.proc}/{pid}/{name}", _READ_BYTES)


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
