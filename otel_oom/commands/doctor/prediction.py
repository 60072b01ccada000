"""The OOM prediction: which processes would be killed if the host or a cgroup had no memory now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.commands.doctor.cgroup_headroom import CgroupHeadroom, nearest_to_limit
from otel_oom.commands.doctor.next_victim import ProcessScore, ProcessTable
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.containers.cgroup_id import find_container_id
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.systemd.units import find_units
from otel_oom.snapshot.host_stats import read_host_memory, read_vm_settings

_MAX_PROCESSES: Final = 5
_MAX_MEMCGS: Final = 3
_CONTAINER_ID_CHARS: Final = 12


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
    container = find_container_id(cgroup)
    if container is None:
        units = find_units(cgroup)
        return units.user_unit or units.unit
    bundles = (lookup.read_bundle(container.id, each) for each in lookup.bundle_dirs())
    name = next((bundle.name for bundle in bundles if bundle), None)
    return f"container {name or container.id[:_CONTAINER_ID_CHARS]}"
