"""The outlook: who would be killed next, if the host or a cgroup had no memory left now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from otel_oom.commands.console.page import Page
from otel_oom.commands.doctor.cgroup_pressure import CgroupHeadroom, nearest
from otel_oom.commands.doctor.next_victim import ProcessScore, ProcessTable
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.containers.cgroup_id import find_container_id
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.process import parse_cgroups
from otel_oom.linux.systemd.units import find_units
from otel_oom.model.units import format_bytes
from otel_oom.snapshot.host_stats import read_host_memory, read_vm_settings

__all__ = ["OomPrediction", "lines", "look"]

_PROCESSES: Final = 5
_MEMCGS: Final = 3
_ID_CHARS: Final = 12


@dataclass(frozen=True, slots=True)
class PredictedVictim:
    """A process and where it is; ``whose`` is its container or unit, if it is in one."""

    process: ProcessScore
    cgroup: str
    whose: str | None

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        one = self.process
        return {
            "pid": one.pid,
            "comm": one.comm,
            "held": one.held,
            "oom_score": one.score,
            "oom_score_adj": one.score_adj,
            "cgroup": self.cgroup,
            "whose": self.whose,
        }


@dataclass(frozen=True, slots=True)
class OomPrediction:
    """Who would be killed first, who never (the largest of so many), and the nearest limits."""

    first: tuple[PredictedVictim, ...]
    spared: tuple[PredictedVictim, ...]
    spared_count: int
    memcgs: tuple[CgroupHeadroom, ...]
    allocating: bool

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "processes": [one.to_json() for one in self.first],
            "spared": [one.to_json() for one in self.spared],
            "spared_count": self.spared_count,
            "memcgs": [asdict(one) | {"first": _pid(one.first)} for one in self.memcgs],
        }


def look() -> OomPrediction:
    """The outlook now."""
    processes, files, finder = ProcessTable(), CgroupMount.find(), ContainerLookup(frozenset())
    memory = read_host_memory().memory
    capacity = memory.get("total", 0) + memory.get("swap_total", 0)
    spared, count = processes.spared(_PROCESSES)
    return OomPrediction(
        first=tuple(_placed(one, finder) for one in processes.next(capacity, _PROCESSES)),
        spared=tuple(_placed(one, finder) for one in spared),
        spared_count=count,
        memcgs=tuple(nearest(files, processes, _MEMCGS)) if files else (),
        allocating=bool(read_vm_settings().get("oom_kill_allocating_task")),
    )


def lines(outlook: OomPrediction, layout: Page) -> Iterator[str]:
    """The outlook as text."""
    yield from layout.heading("Who would be killed next, if the host had no memory left now")
    if outlook.allocating:
        yield from layout.paragraph(
            "vm.oom_kill_allocating_task is set: it would be whoever asks for memory. By score:",
            indent=2,
        )
    if not outlook.first:
        yield from layout.paragraph("Nobody that can be seen from here.", indent=2)
    else:
        yield from layout.table(
            ("OOM_SCORE", "PID", "COMM", "HELD", "ADJ", "WHOSE", "CGROUP"),
            [_row(one) for one in outlook.first],
            right=frozenset({0, 1, 3, 4}),
            flexible=(5, 2),
        )
    if outlook.spared:
        who = ", ".join(f"{one.process.comm} ({one.process.pid})" for one in outlook.spared)
        more = outlook.spared_count - len(outlook.spared)
        told = f"Never, by oom_score_adj -1000: {who}{f' and {more} more' if more else ''}"
        yield from layout.paragraph(told, indent=2)
    if outlook.memcgs:
        yield from layout.heading("Which cgroups are nearest to their limits")
        for near in outlook.memcgs:
            yield from layout.paragraph(_near(near), indent=2, hanging=2)


def _row(one: PredictedVictim) -> tuple[str, ...]:
    process = one.process
    return (
        *(str(process.score), str(process.pid), process.comm, format_bytes(process.held)),
        *(str(process.score_adj), one.whose or "-", one.cgroup),
    )


def _near(near: CgroupHeadroom) -> str:
    first = near.first
    who = f"{first.comm} (pid {first.pid}) would be killed" if first else "nobody may be killed"
    share = near.held / near.limit
    return (
        f"{near.path}: {format_bytes(near.held)} of {format_bytes(near.limit)} ({share:.0%}), {who}"
    )


def _placed(one: ProcessScore, finder: ContainerLookup) -> PredictedVictim:
    path = _finest(one.cgroups)
    inside = find_container_id(path)
    if inside is None:
        units = find_units(path)
        return PredictedVictim(one, path, units.user_unit or units.unit)
    bundle_dirs = finder.bundle_dirs()
    found = next(filter(None, (finder.read_bundle(inside.id, each) for each in bundle_dirs)), None)
    name = found.name if found else None
    return PredictedVictim(one, path, f"container {name or inside.id[:_ID_CHARS]}")


def _finest(cgroups: str) -> str:
    """The longest of a process's paths, one for each hierarchy: it tells most of where it is."""
    return max((entry.path for entry in parse_cgroups(cgroups)), key=len, default="")


def _pid(one: ProcessScore | None) -> Mapping[str, Any] | None:
    return None if one is None else {"pid": one.pid, "comm": one.comm}
