"""Pressure stall information: the share of time in which tasks waited for memory.

Source: Documentation/accounting/psi.rst of the kernel. A kernel without it has no such file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs

_READ_BYTES: Final = 512
_LINE: Final = re.compile(r"(some|full) avg10=(\d+\.\d+) avg60=(\d+\.\d+) ")


def read_pressure(path: Path) -> Mapping[str, float]:
    """Read the shares of the last 10 and 60 s in which tasks waited for memory, in percent.

    ``some.avg10`` counts time in which at least one task waited, ``full.avg10`` time in which all
    did. Empty where the kernel has no such file.
    """
    shares: dict[str, float] = {}
    for kind, avg10, avg60 in _LINE.findall(procfs.read_text(path, _READ_BYTES) or ""):
        shares |= {f"{kind}.avg10": float(avg10), f"{kind}.avg60": float(avg60)}
    return shares
