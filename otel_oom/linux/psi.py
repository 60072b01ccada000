"""How long tasks have waited for memory: the kernel's pressure stall information.

Source: Documentation/accounting/psi.rst of the kernel. A kernel without it has no such file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs as proc_file

_READ_BYTES: Final = 512
_LINE: Final = re.compile(r"(some|full) avg10=(\d+\.\d+) avg60=(\d+\.\d+) ")


def pressure(path: Path) -> Mapping[str, float]:
    """The shares of the last 10 and 60 s in which tasks waited for memory, in percent.

    ``some.avg10`` is of at least one task, ``full.avg10`` of all of them at once. Empty where
    the kernel does not tell.
    """
    shares: dict[str, float] = {}
    for kind, avg10, avg60 in _LINE.findall(proc_file.read(path, _READ_BYTES) or ""):
        shares |= {f"{kind}.avg10": float(avg10), f"{kind}.avg60": float(avg60)}
    return shares
