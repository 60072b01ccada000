"""Python code of the victims and triggers of scenarios."""

from __future__ import annotations

import os
from typing import Final

ALLOCATE: Final = "held = [bytearray(b'x' * (1 << 20)) for _ in range(96)]\n"
ENTER_CGROUP: Final = "import os, sys, time\nopen(sys.argv[1], 'w').write('0')\n"
WAIT: Final = "print('ready', flush=True)\ntime.sleep(600)\n"
EXIT_NUMBER: Final = {"x86_64": 60, "aarch64": 93}.get(os.uname().machine)
"""The number of exit(2), which ends one thread."""
ALLOCATE_4_GIB: Final = (
    "import mmap\nopen('/proc/self/oom_score_adj', 'w').write('1000')\n"
    # MAP_POPULATE: at once, and by the kernel.
    "mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)\n"
)


def hold_memory(mib: int) -> str:
    """Return code that holds that much memory."""
    return f"held = b'x' * ({mib} << 20)\n"
