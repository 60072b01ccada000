"""The OOM prediction: which processes would be killed if the host or a cgroup had no memory now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from otel_oom.commands.doctor.cgroup_headroom import CgroupHeadroom, nearest_to_limit
from otel_oom.commands.doctor.next_victim import ProcessScore, ProcessTable
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.containers.cgroup_id import find_container_id
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.process import parse_cgroups
from otel_oom.linux.systemd.units import find_units
from otel_oom.snapshot.host_stats import read_host_memory, read_vm_settings

_PROCESSES: Final = 5
_MEMCGS: Final = 3
_CONTAINER_ID_CHARS: Final = 12


@dataclass(frozen=True, slots=True)
class PredictedVictim:
    """A process, its cgroup, and its ``owner``: a container or a unit, if it is in one."""

    process: ProcessScore
    cgroup: str
    owner: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "pid": self.process.pid,
            "comm": self.process.comm,
            "total_bytes": self.process.total_bytes,
            "oom_score": self.process.score,
            "oom_score_adj": self.process.score_adj,
            "cgroup": self.cgroup,
            "owner": self.owner,
        }


@dataclass(frozen=True, slots=True)
class OomPrediction:
    """The first victims, the largest of ``protected_count`` protected processes, the full cgroups.

    ``kills_trigger``: the kernel would kill the allocating process, whatever its score.
    """

    victims: tuple[PredictedVictim, ...]
    protected: tuple[PredictedVictim, ...]
    protected_count: int
    memcgs: tuple[CgroupHeadroom, ...]
    kills_trigger: bool

    def to_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "victims": [victim.to_json() for victim in self.victims],
            "protected": [process.to_json() for process in self.protected],
            "protected_count": self.protected_count,
            "memcgs": [_headroom_to_json(headroom) for headroom in self.memcgs],
        }


def predict() -> OomPrediction:
    """Return the prediction for this moment."""
    table, mount, lookup = ProcessTable(), CgroupMount.find(), ContainerLookup(frozenset())
    memory = read_host_memory().memory
    capacity = memory.get("total", 0) + memory.get("swap_total", 0)
    protected, count = table.protected(_PROCESSES)
    return OomPrediction(
        victims=tuple(_located(p, lookup) for p in table.first_victims(capacity, _PROCESSES)),
        protected=tuple(_located(process, lookup) for process in protected),
        protected_count=count,
        memcgs=tuple(nearest_to_limit(mount, table, _MEMCGS)) if mount else (),
        kills_trigger=bool(read_vm_settings().get("oom_kill_allocating_task")),
    )


def _headroom_to_json(headroom: CgroupHeadroom) -> dict[str, Any]:
    victim = headroom.victim
    return {
        "path": headroom.path,
        "used_bytes": headroom.used_bytes,
        "limit_bytes": headroom.limit_bytes,
        "victim": None if victim is None else {"pid": victim.pid, "comm": victim.comm},
    }


def _located(process: ProcessScore, lookup: ContainerLookup) -> PredictedVictim:
    path = _longest_path(process.cgroups)
    container = find_container_id(path)
    if container is None:
        units = find_units(path)
        return PredictedVictim(process, path, units.user_unit or units.unit)
    bundles = (lookup.read_bundle(container.id, each) for each in lookup.bundle_dirs())
    bundle = next(filter(None, bundles), None)
    name = (bundle.name if bundle else None) or container.id[:_CONTAINER_ID_CHARS]
    return PredictedVictim(process, path, f"container {name}")


def _longest_path(cgroups: str) -> str:
    """Return the path with most detail; cgroup v1 has one for each hierarchy."""
    return max((entry.path for entry in parse_cgroups(cgroups)), key=len, default="")
