"""The victim of the demonstration: joins a memory cgroup and allocates until it is killed.

It is a program of its own, so that the kernel never kills the demonstration itself. Without a kill
it ends at a multiple of the limit.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Final

COMM: Final = "oom-demo-victim"
STEP: Final = 1 << 20
_MAX_TIMES: Final = 4


def main(procs: str, limit: int) -> int:
    """Move into the cgroup of ``procs``, then allocate more than ``limit`` bytes.

    Returns an exit code only if it was not killed.
    """
    Path("/proc/self/comm").write_text(COMM, encoding="ascii")
    Path(procs).write_text(str(os.getpid()), encoding="ascii")
    blocks = []
    for _ in range(limit * _MAX_TIMES // STEP):
        block = mmap.mmap(-1, STEP, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(b"\xff" * STEP)
        blocks.append(block)
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
