"""The host's memory and pressure, and the kernel's settings for being out of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from otel_oom.linux import procfs
from otel_oom.linux.procfs import read_pressure
from otel_oom.model.snapshot import HostMemory
from otel_oom.model.units import KIB

_READ_BYTES: Final = 8192

_MEMINFO: Final = {
    "MemTotal": "total",
    "MemFree": "free",
    "MemAvailable": "available",
    "Buffers": "buffers",
    "Cached": "cached",
    "AnonPages": "anon",
    "Shmem": "shmem",
    "SReclaimable": "slab_reclaimable",
    "SUnreclaim": "slab_unreclaimable",
    "PageTables": "page_tables",
    "Hugetlb": "hugetlb",
    "SwapTotal": "swap_total",
    "SwapFree": "swap_free",
    "CommitLimit": "commit_limit",
    "Committed_AS": "committed",
}
"""Fields of /proc/meminfo (proc_meminfo(5)) that are read, and their names in a snapshot."""

_SETTINGS: Final = (
    *("overcommit_memory", "overcommit_ratio", "panic_on_oom", "oom_kill_allocating_task"),
    *("oom_dump_tasks", "min_free_kbytes", "swappiness"),
)
"""Files of /proc/sys/vm (Documentation/admin-guide/sysctl/vm.rst)."""


def read_host_memory(proc: Path = Path("/proc")) -> HostMemory:
    """Read the host's memory and pressure."""
    memory = {}
    for line in (procfs.read_text(f"{proc}/meminfo", _READ_BYTES) or "").split("\n"):
        name, _, value = line.partition(":")
        number = value.removesuffix(" kB").strip()
        if name in _MEMINFO and number.isdecimal():
            memory[_MEMINFO[name]] = int(number) * KIB
    return HostMemory(memory, read_pressure(f"{proc}/pressure/memory"))


def read_vm_settings(proc: Path = Path("/proc")) -> dict[str, int]:
    """Read the ``vm.*`` settings that bear on an OOM kill, by their names."""
    texts = {name: procfs.read_text(f"{proc}/sys/vm/{name}", _READ_BYTES) for name in _SETTINGS}
    return {name: int(text) for name, text in texts.items() if text and text.strip().isdecimal()}
