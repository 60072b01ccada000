"""What the host had: its memory, its pressure, and how its kernel is set to deal with a want."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from otel_oom.linux import procfs as proc_file
from otel_oom.linux.psi import pressure
from otel_oom.model.types import known

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


@dataclass(frozen=True, slots=True)
class HostNumbers:
    """The host's memory in bytes and its pressure in percent at one moment.

    What the kernel does not tell is left out.
    """

    memory: Mapping[str, int] = field(default_factory=dict)
    pressure: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> HostNumbers | None:
        """The numbers out of their JSON form, if there are any."""
        return known(cls, value) if value else None

    @property
    def swapped(self) -> int:
        """How much of the host's swap is in use, in bytes."""
        return self.memory.get("swap_total", 0) - self.memory.get("swap_free", 0)


def host_numbers(proc: Path = Path("/proc")) -> HostNumbers:
    """The host's numbers now."""
    memory = {}
    for line in (proc_file.read(proc / "meminfo", _READ_BYTES) or "").splitlines():
        name, _, value = line.partition(":")
        number = value.removesuffix(" kB").strip()
        if name in _MEMORY and number.isdecimal():
            memory[_MEMORY[name]] = int(number) * _KB
    return HostNumbers(memory, pressure(proc / "pressure/memory"))


def settings(proc: Path = Path("/proc")) -> dict[str, int]:
    """The ``vm.*`` settings in force that bear on a kill, by their names."""
    texts = {name: proc_file.read(proc / "sys/vm" / name, _READ_BYTES) for name in _SETTINGS}
    return {name: int(text) for name, text in texts.items() if text and text.strip().isdecimal()}
