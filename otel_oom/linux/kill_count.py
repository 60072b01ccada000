"""The kernel's own count of its OOM kills."""

from __future__ import annotations

from pathlib import Path
from typing import Final

VMSTAT: Final = Path("/proc/vmstat")
_READ_BYTES: Final = 1 << 15
_COUNTER: Final = b"oom_kill"


def read_kill_count(vmstat: Path = VMSTAT) -> int | None:
    """Read the kernel's count of kills on this boot; ``None`` before Linux 4.13."""
    with vmstat.open("rb", buffering=0) as file:
        for line in file.read(_READ_BYTES).split(b"\n"):
            name, _, value = line.partition(b" ")
            if name == _COUNTER and value.isdigit():
                return int(value)
    return None
