"""The cgroups nearest to their limits, and the process that would be killed in each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.commands.doctor.next_victim import ProcessScore, ProcessTable
from otel_oom.linux import procfs
from otel_oom.linux.cgroupfs import CgroupMount, read_flat_keyed, walk_cgroups
from otel_oom.model.types import Memcg

_PROCS_BYTES: Final = 1 << 16


class CgroupHeadroom(Struct, frozen=True):
    """A cgroup and its limit, in bytes; ``used_bytes`` excludes what is easily reclaimed.

    ``victim`` is ``None`` if no process of the cgroup may be killed.
    """

    path: str
    used_bytes: int
    limit_bytes: int
    victim: ProcessScore | None


def nearest_to_limit(mount: CgroupMount, table: ProcessTable, count: int) -> list[CgroupHeadroom]:
    """Return the cgroups with processes that use most of their own limits, the fullest first."""
    result: list[CgroupHeadroom] = []
    for folder, used, limit in sorted(_limited(mount), key=lambda usage: -usage[1] / usage[2]):
        pids = [*_pids(folder)]
        # A cgroup without a process allocates nothing.
        if pids:
            victim = table.first_victim_of(pids, limit)
            result.append(CgroupHeadroom(mount.path_of(folder), used, limit, victim))
        if len(result) == count:
            break
    return result


def _limited(mount: CgroupMount) -> Iterator[tuple[Path, int, int]]:
    """Yield each cgroup that has a limit: directory, used bytes, limit in bytes."""
    for folder in walk_cgroups(mount.mount):
        limits = mount.read_usage(Memcg(id=None, path=mount.path_of(folder)))
        if limits and limits.limit and limits.usage:
            yield folder, max(0, limits.usage - _inactive_file(folder)), limits.limit


def _inactive_file(folder: Path) -> int:
    """Return the bytes of file pages that the kernel reclaims before it kills.

    On v1 only the value with ``total_`` includes those of child cgroups.
    """
    stat = read_flat_keyed(folder / "memory.stat")
    return stat.get("total_inactive_file", stat.get("inactive_file", 0))


def _pids(folder: Path) -> Iterator[int]:
    for child in walk_cgroups(folder):
        for pid in procfs.read_lines(child / "cgroup.procs", _PROCS_BYTES):
            if pid.isdecimal():
                yield int(pid)
