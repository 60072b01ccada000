"""Allocates until the kernel kills it: a safe way to see an OOM kill.

    sudo .venv/bin/python examples/bigmem.py    # in a memory cgroup of its own, of 64 MiB
    sudo .venv/bin/python examples/bigmem.py --limit 256
    .venv/bin/python examples/bigmem.py --here  # in its own present cgroup: see below

By default it makes a memory cgroup with a limit, and a child in it that allocates: the kernel kills
the child, and can kill nothing else. With --here it makes no cgroup. Then it allocates up to the
limit of its container or unit. Without such a limit it fills the whole host, and the kernel may
kill any process. So --here needs a confirmation.
"""

from __future__ import annotations

import argparse
import mmap
import os
import signal
import sys
import time

from otel_oom.linux.temporary_cgroup import CgroupError, TemporaryCgroup

MIB = 1 << 20
STEP = 8 * MIB


def main() -> int:
    """Allocate until killed; return 0 if the child was killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, default=64, metavar="MIB", help="(default: 64)")
    parser.add_argument("--here", action="store_true", help="no cgroup of its own: dangerous")
    parser.add_argument(
        "--yes", action="store_true", help="do not require a confirmation before --here"
    )
    arguments = parser.parse_args()
    if arguments.here:
        if not arguments.yes and input("This may kill anything on the host. Go on? [y/N] ") != "y":
            return 1
        allocate_for_ever()
    try:
        with TemporaryCgroup(f"bigmem-{os.getpid()}", arguments.limit * MIB) as memcg:
            return run_child(str(memcg.procs))
    except CgroupError as error:
        sys.stderr.write(f"bigmem: {error}\n")
        return 1


def run_child(procs: str) -> int:
    """Fork a child that moves into the cgroup and allocates; return 0 if it was killed."""
    child = os.fork()
    if child == 0:
        with open(procs, "w", encoding="ascii") as file:  # noqa: PTH123  few imports after fork()
            file.write(str(os.getpid()))
        allocate_for_ever()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    print(f"bigmem: process {child} {'was killed' if killed else 'was not killed'}")
    return 0 if killed else 1


def allocate_for_ever() -> None:
    """Allocate memory and write to all of it; never return."""
    blocks = []
    while True:
        block = mmap.mmap(-1, STEP, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(b"\xff" * STEP)
        blocks.append(block)
        time.sleep(0.001)


if __name__ == "__main__":
    sys.exit(main())
