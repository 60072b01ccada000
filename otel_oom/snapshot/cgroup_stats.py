"""The statistics of a memory cgroup: large parts of its memory, its events, its pressure.

Names are those of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst); v1 has some of them under
other names. All values include the cgroups below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from otel_oom.linux.cgroupfs import CgroupMount, read_flat_keyed, read_single_value
from otel_oom.linux.procfs import read_pressure
from otel_oom.model.snapshot import MemcgStats
from otel_oom.model.types import Memcg

_STAT: Final = {
    name: name
    for name in (
        *("anon", "file", "kernel", "kernel_stack", "pagetables", "percpu", "sock", "shmem"),
        *("file_mapped", "file_dirty", "file_writeback", "unevictable"),
        *("slab_reclaimable", "slab_unreclaimable"),
    )
}
_STAT_V1: Final = {
    "total_rss": "anon",
    "total_cache": "file",
    "total_shmem": "shmem",
    "total_mapped_file": "file_mapped",
    "total_dirty": "file_dirty",
    "total_writeback": "file_writeback",
    "total_unevictable": "unevictable",
}
_FILES_V1: Final = {
    "memory.kmem.usage_in_bytes": "kernel",
    "memory.kmem.tcp.usage_in_bytes": "sock",
}
_LIMIT_HITS_V1: Final = ("memory.failcnt", "memory.memsw.failcnt")
"""The hits of the two limits: that of memory, and that of memory and swap."""

_EVENTS: Final = {
    name: name for name in ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
}


def read_memcg_stats(cgroups: CgroupMount, memcg: Memcg) -> MemcgStats | None:
    """Read the statistics of ``memcg``; ``None`` when its folder does not exist."""
    folder = cgroups.existing_folder(memcg)
    if folder is None:
        return None
    if not cgroups.v1:
        return MemcgStats(
            stat=_select(f"{folder}/memory.stat", _STAT),
            events=_select(f"{folder}/memory.events", _EVENTS),
            pressure=read_pressure(f"{folder}/memory.pressure"),
        )
    hits = _read_each((f"{folder}/{file}", "max") for file in _LIMIT_HITS_V1)
    return MemcgStats(
        stat=_select(f"{folder}/memory.stat", _STAT_V1)
        | _read_each((f"{folder}/{file}", name) for file, name in _FILES_V1.items()),
        events=_select(f"{folder}/memory.oom_control", _EVENTS)
        # 6.18 does not count them for v1: it shows 0 where there were some.
        | (hits if hits.get("max") else {}),
    )


def _select(path: str, names: Mapping[str, str]) -> dict[str, int]:
    values = read_flat_keyed(path)
    return {names[name]: value for name, value in values.items() if name in names}


def _read_each(files: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Read files of one number each; those of one name are added up."""
    totals: dict[str, int] = {}
    for path, name in files:
        value = read_single_value(path)
        if value is not None:
            totals[name] = totals.get(name, 0) + value
    return totals
