"""Real OOM kills in memory cgroups."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from otel_oom.linux.temporary_cgroup import Cgroup
from tests.testlib.kernel.memcg import MEMCG_LIMIT, cgroup_prefix, own_memcg
from tests.testlib.speed import slowness
from tests.testlib.wait import wait_until

KILLED_S = 60.0

_FILL_MEMORY = ("tail", "/dev/zero")
"""It keeps input that has no newline: it allocates memory until it is killed."""


def kill_one(limit: int = MEMCG_LIMIT) -> int:
    """Have the kernel kill one process for the limit of its cgroup; return its pid."""
    with own_memcg(limit) as memcg:
        return kill_in(memcg)


def kill_in(memcg: Cgroup) -> int:
    """Have the kernel kill one process in ``memcg``; return its pid."""
    with subprocess.Popen([*cgroup_prefix(memcg), *_FILL_MEMORY]) as process:
        wait_until_killed(process)
    return process.pid


def kill_many(count: int, *, at_once: int = 4) -> list[int]:
    """Make ``count`` kills as fast as the machine can, some at a time; return their pids."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda _: kill_one(), range(count)))


def wait_until_killed(process: subprocess.Popen[bytes]) -> None:
    """Wait until SIGKILL has ended a process.

    Raises:
        AssertionError: it ended otherwise.
    """
    code = process.wait(KILLED_S * slowness())
    assert code == -signal.SIGKILL, f"{process.args!r} was not killed, it ended with {code}"


def wait_until_asleep(process: subprocess.Popen[bytes]) -> None:
    """Wait until the program `sleep` sleeps: before, it allocates memory as it starts.

    While it waits for pages of its file, its state is D.
    """
    stat = Path(f"/proc/{process.pid}/stat")
    limit_s = KILLED_S * slowness()
    wait_until(lambda: " (sleep) S " in stat.read_text("ascii"), "the sleep", limit=limit_s)


@contextmanager
def run_python(program: str, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program with its standard output as a pipe, and kill it at the end."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", program, *arguments], stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()
