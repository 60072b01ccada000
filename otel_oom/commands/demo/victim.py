"""The demonstration's victim: joins a memory cgroup and allocates until it is killed.

Started as a program of its own, so that what dies is never the demonstration itself. It stops
by itself at a multiple of the limit, should no one kill it.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Final

COMM: Final = "oom-demo-victim"
STEP: Final = 1 << 20
_MOST_TIMES: Final = 4


def main(procs: str, limit: int) -> int:
    """Move into the cgroup of ``procs``, then take memory past ``limit`` bytes.

    Returns only when it was not killed, with an exit code that says so.
    """
    Path("/proc/self/comm").write_text(COMM, encoding="ascii")
    Path(procs).write_text(str(os.getpid()), encoding="ascii")
    held = []
    for _ in range(limit * _MOST_TIMES // STEP):
        block = mmap.mmap(-1, STEP, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(b"\xff" * STEP)
        held.append(block)
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
