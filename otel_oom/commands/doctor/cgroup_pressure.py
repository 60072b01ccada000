"""Which cgroups are nearest to their limits, and who in them would be killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.commands.doctor.next_victim import ProcessScore, ProcessTable
from otel_oom.linux import procfs
from otel_oom.linux.cgroupfs import CgroupMount, read_flat_keyed, walk_cgroups
from otel_oom.model.types import Memcg

_PROCS_BYTES: Final = 1 << 16


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
    for folder in walk_cgroups(files.mount):
        limits = files.read_usage(Memcg(id=None, path=files.path_of(folder)))
        if limits and limits.limit and limits.usage:
            yield folder, max(0, limits.usage - _inactive(folder)), limits.limit


def _inactive(folder: Path) -> int:
    """Return the file pages that the kernel reclaims before it kills; below v1's ``total_`` too."""
    stat = read_flat_keyed(folder / "memory.stat")
    return stat.get("total_inactive_file", stat.get("inactive_file", 0))


def _pids(folder: Path) -> Iterator[int]:
    for one in walk_cgroups(folder):
        for pid in procfs.read_lines(one / "cgroup.procs", _PROCS_BYTES):
            if pid.isdecimal():
                yield int(pid)
