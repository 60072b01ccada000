"""What the host had: its memory, its pressure, and how its kernel is set to deal with a want."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from otel_oom.linux import procfs as proc_file
from otel_oom.linux.psi import pressure
from otel_oom.model.snapshot import HostMemory

_READ_BYTES: Final = 8192
_KB: Final = 1024

_MEMORY: Final = {
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
"""What is taken of /proc/meminfo (proc_meminfo(5)), and what it is called here."""

_SETTINGS: Final = (
    *("overcommit_memory", "overcommit_ratio", "panic_on_oom", "oom_kill_allocating_task"),
    *("oom_dump_tasks", "min_free_kbytes", "swappiness"),
)
"""Files of /proc/sys/vm (Documentation/admin-guide/sysctl/vm.rst)."""


def host_numbers(proc: Path = Path("/proc")) -> HostMemory:
    """The host's numbers now."""
    memory = {}
    for line in (proc_file.read(proc / "meminfo", _READ_BYTES) or "").splitlines():
        name, _, value = line.partition(":")
        number = value.removesuffix(" kB").strip()
        if name in _MEMORY and number.isdecimal():
            memory[_MEMORY[name]] = int(number) * _KB
    return HostMemory(memory, pressure(proc / "pressure/memory"))


def settings(proc: Path = Path("/proc")) -> dict[str, int]:
    """The ``vm.*`` settings in force that bear on a kill, by their names."""
    texts = {name: proc_file.read(proc / "sys/vm" / name, _READ_BYTES) for name in _SETTINGS}
    return {name: int(text) for name, text in texts.items() if text and text.strip().isdecimal()}
