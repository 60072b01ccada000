"""Which cgroups are nearest to their limits, and who in them would be killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.commands.doctor.next_victim import ProcessScore, ProcessTable
from otel_oom.linux import procfs as proc_file
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.types import Memcg
from otel_oom.snapshot.process_scanner import below

_READ_BYTES: Final = 8192
_PROCS_BYTES: Final = 1 << 16
_INACTIVE: Final = {"inactive_file", "total_inactive_file"}
"""Lines of memory.stat, of v2 and of v1: what the kernel takes back before it kills."""


@dataclass(frozen=True, slots=True)
class CgroupHeadroom:
    """A cgroup near its limit, in bytes; ``held`` is its usage without what can be had back.

    ``first`` is who would be killed in it, ``None`` where nobody may be.
    """

    path: str
    held: int
    limit: int
    first: ProcessScore | None


def nearest(files: CgroupMount, look: ProcessTable, most: int) -> list[CgroupHeadroom]:
    """The cgroups with processes whose usage is nearest to their own limit, the nearest first."""
    near: list[CgroupHeadroom] = []
    for folder, held, limit in sorted(_limited(files), key=lambda one: -one[1] / one[2]):
        pids = [*_pids(folder)]
        # Where nothing runs, nothing asks for memory.
        if pids:
            near.append(
                CgroupHeadroom(files.path_of(folder), held, limit, look.next_of(pids, limit))
            )
        if len(near) == most:
            break
    return near


def _limited(files: CgroupMount) -> Iterator[tuple[Path, int, int]]:
    """Each cgroup that has a limit, with what it holds and may hold."""
    for folder in below(files.mount):
        limits = files.limits(Memcg(id=None, path=files.path_of(folder)))
        if limits and limits.limit and limits.usage:
            yield folder, max(0, limits.usage - _inactive(folder)), limits.limit


def _inactive(folder: Path) -> int:
    """What of its memory are pages of files that nobody has used lately.

    On v1 the lines of a cgroup alone come first; those with ``total_`` have what is below it too.
    """
    found = 0
    for line in (proc_file.read(folder / "memory.stat", _READ_BYTES) or "").splitlines():
        name, _, value = line.partition(" ")
        if name in _INACTIVE and value.isdecimal():
            found = int(value)
    return found


def _pids(folder: Path) -> Iterator[int]:
    for one in below(folder):
        for pid in proc_file.read_lines(one / "cgroup.procs", _PROCS_BYTES):
            if pid.isdecimal():
                yield int(pid)
