"""What a memory cgroup is made of: the large parts of its memory, its events, its pressure.

The names are those of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst); v1 has the same under
other names, or not at all. All of it includes the cgroups below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs as proc_file
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.psi import pressure
from otel_oom.model.snapshot import MemcgStats
from otel_oom.model.types import Memcg

_READ_BYTES: Final = 8192

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
_LIMITS_V1: Final = ("memory.failcnt", "memory.memsw.failcnt")
"""How often each of the two limits was hit: that of memory, and that of memory and swap."""

_EVENTS: Final = {
    name: name for name in ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
}


def read_memcg_stats(files: CgroupMount, memcg: Memcg) -> MemcgStats | None:
    """The numbers of ``memcg`` now; ``None`` when its folder can't be found."""
    folder = files.own_folder(memcg)
    if folder is None:
        return None
    if not files.v1:
        return MemcgStats(
            stat=_table(folder / "memory.stat", _STAT),
            events=_table(folder / "memory.events", _EVENTS),
            pressure=pressure(folder / "memory.pressure"),
        )
    hits = _single((folder / file, "max") for file in _LIMITS_V1)
    return MemcgStats(
        stat=_table(folder / "memory.stat", _STAT_V1)
        | _single((folder / file, name) for file, name in _FILES_V1.items()),
        events=_table(folder / "memory.oom_control", _EVENTS)
        # 6.18 does not count them for v1, and has none where there must have been some.
        | (hits if hits.get("max") else {}),
    )


def _table(path: Path, names: Mapping[str, str]) -> dict[str, int]:
    """Those lines of a file of names and numbers that are in ``names``, under what it says."""
    found = {}
    for line in (proc_file.read(path, _READ_BYTES) or "").splitlines():
        name, _, value = line.partition(" ")
        if name in names and value.isdecimal():
            found[names[name]] = int(value)
    return found


def _single(files: Iterable[tuple[Path, str]]) -> dict[str, int]:
    """The numbers that are files of their own; those of one name are added up."""
    found: dict[str, int] = {}
    for path, name in files:
        text = (proc_file.read(path, _READ_BYTES) or "").strip()
        if text.isdecimal():
            found[name] = found.get(name, 0) + int(text)
    return found
