"""The OOM prediction: which processes would be killed if the host or a cgroup had no memory now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.commands.doctor.next_victim import ProcessScore, ProcessTable
from otel_oom.linux import procfs
from otel_oom.linux.cgroupfs import CgroupMount, read_flat_keyed, walk_cgroups
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.systemd.units import find_units
from otel_oom.model.types import Memcg
from otel_oom.snapshot.host_stats import read_host_memory, read_vm_settings

_MAX_PROCESSES: Final = 5
_MAX_MEMCGS: Final = 3
_CONTAINER_ID_CHARS: Final = 12
_PROCS_BYTES: Final = 1 << 16


class CgroupHeadroom(Struct, frozen=True):
    """A cgroup and its limit, in bytes; ``used_bytes`` excludes what is easily reclaimed.

    ``victim`` is ``None`` if no process of the cgroup may be killed.
    """

    path: str
    used_bytes: int
    limit_bytes: int
    victim: ProcessScore | None


class OomPrediction(Struct, frozen=True):
    """The first victims, the largest of ``protected_count`` protected processes, the full cgroups.

    ``kills_trigger``: the kernel would kill the allocating process, whatever its score.
    """

    victims: tuple[ProcessScore, ...]
    protected: tuple[ProcessScore, ...]
    protected_count: int
    memcgs: tuple[CgroupHeadroom, ...]
    kills_trigger: bool


def predict() -> OomPrediction:
    """Return the prediction for this moment."""
    table, mount = ProcessTable(), CgroupMount.find()
    memory = read_host_memory().memory
    capacity = memory.get("total", 0) + memory.get("swap_total", 0)
    protected, protected_count = table.protected(_MAX_PROCESSES)
    return OomPrediction(
        victims=_with_owners(table.first_victims(capacity, _MAX_PROCESSES)),
        protected=_with_owners(protected),
        protected_count=protected_count,
        memcgs=tuple(nearest_to_limit(mount, table, _MAX_MEMCGS)) if mount else (),
        kills_trigger=bool(read_vm_settings().get("oom_kill_allocating_task")),
    )


def _with_owners(processes: Iterable[ProcessScore]) -> tuple[ProcessScore, ...]:
    lookup = ContainerLookup(frozenset())
    return tuple(replace(process, owner=_owner(process.cgroup, lookup)) for process in processes)


def _owner(cgroup: str, lookup: ContainerLookup) -> str | None:
    containers = lookup.resolve_task(None, cgroup)
    if not containers:
        units = find_units(cgroup)
        return units.user_unit or units.unit
    return f"container {containers[-1].name or containers[-1].id[:_CONTAINER_ID_CHARS]}"


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
