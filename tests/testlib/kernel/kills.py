"""Real OOM kills, each in a memory cgroup of its own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from otel_oom.linux.temporary_cgroup import TemporaryCgroup

MEMCG_LIMIT = 16 << 20

_serial = itertools.count()

_HOG = 'echo $$ > "$0" && exec tail /dev/zero'
"""`tail` keeps what has no newline: it takes memory until it is killed."""


@contextmanager
def own_memcg(limit: int = MEMCG_LIMIT) -> Iterator[TemporaryCgroup]:
    """A memory cgroup with a name that no other test uses."""
    with TemporaryCgroup(f"otel-oom-test-{os.getpid()}-{next(_serial)}", limit) as memcg:
        yield memcg


def kill_one(limit: int = MEMCG_LIMIT) -> int:
    """Have the kernel kill one process for its cgroup's limit; its pid."""
    with own_memcg(limit) as memcg:
        return kill_in(memcg)


def kill_in(memcg: TemporaryCgroup) -> int:
    """Have the kernel kill one process in ``memcg``; its pid."""
    return kill_in_cgroup(memcg.procs)


def kill_in_cgroup(procs: Path) -> int:
    """Have the kernel kill one process in the cgroup of the file ``procs``; its pid."""
    with subprocess.Popen(["/bin/sh", "-c", _HOG, procs]) as process:
        code = process.wait(60)
    assert code == -signal.SIGKILL, "the kernel did not kill the hog"
    return process.pid


@contextmanager
def run_python(program: str, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process with its standard output as a pipe, killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_many(count: int, *, at_once: int = 4) -> list[int]:
    """``count`` kills, some at a time, as fast as the machine makes them; their pids."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda _: kill_one(), range(count)))
