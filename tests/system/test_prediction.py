"""Who would be killed next: held against the kernel's own scores, and against whom it kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_oom.commands.console.page import Page
from otel_oom.commands.console.terminal import Terminal
from otel_oom.commands.doctor import prediction
from otel_oom.commands.doctor.cgroup_pressure import nearest
from otel_oom.commands.doctor.next_victim import ProcessTable
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.snapshot.host_stats import read_host_memory
from tests.testlib.kernel.kills import own_memcg

pytestmark = pytest.mark.usefixtures("real_kills")

MIB = 1 << 20
ALL = 1 << 20

_HOLDER = """
import sys
procs, adjusted, held = sys.argv[1:]
open("/proc/self/comm", "w").write("held-\\x1b[31m")
if procs:
    open(procs, "w").write("0")
held = [b"x" * (int(held) << 20)]
open("/proc/self/oom_score_adj", "w").write(adjusted)
print(flush=True)
for line in sys.stdin:
    held.append(b"x" * (int(line) << 20))
"""


@contextmanager
def holder(
    adjusted: int = 0, mib: int = 8, procs: Path | str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds memory, with an ``oom_score_adj``, in the cgroup of ``procs``.

    It takes more by so many MiB as are written to it.
    """
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _HOLDER, procs, str(adjusted), str(mib)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def capacity() -> int:
    """What the host has in all, in bytes."""
    memory = read_host_memory().memory
    return memory["total"] + memory.get("swap_total", 0)


def test_the_highest_score_is_first() -> None:
    """One that is adjusted to be killed first is first, with what the kernel says of it."""
    with holder(adjusted=999) as least, holder(adjusted=1000) as most:
        # Any other on this host that is adjusted as far may hold more.
        found = [
            one for one in ProcessTable().next(capacity(), ALL) if one.pid in {least.pid, most.pid}
        ]
        score = int(Path(f"/proc/{most.pid}/oom_score").read_text(encoding="ascii"))
    assert [one.pid for one in found] == [most.pid, least.pid]
    assert (found[0].score, found[0].score_adj) == (score, 1000)
    assert found[0].comm == "held-\x1b[31m"
    assert found[0].held >= 8 * MIB


def test_neither_init_nor_who_looks_is_told() -> None:
    """The one is never killed, and the other gone by then."""
    found = {one.pid for one in ProcessTable().next(capacity(), ALL)}
    assert found
    assert not found & {1, os.getpid()}


def test_the_cgroup_nearest_to_its_limit_and_who_would_be_killed_in_it() -> None:
    """The kernel then kills whom it was said to kill."""
    files = CgroupMount.find()
    assert files
    with (
        own_memcg(48 * MIB) as memcg,
        holder(0, 24, memcg.procs) as large,
        holder(300, 4, memcg.procs) as adjusted,
    ):
        told = next(one for one in nearest(files, ProcessTable(), ALL) if one.path == memcg.path)
        assert told.limit == 48 * MIB
        assert 28 * MIB <= told.held <= 48 * MIB
        assert told.first
        # The larger one asks for more than there is.
        assert large.stdin
        large.stdin.write(b"40\n")
        large.stdin.flush()
        chosen = {large.pid: large, adjusted.pid: adjusted}[told.first.pid]
        assert chosen.wait(60) == -signal.SIGKILL


def test_the_text_and_the_json_say_the_same_and_names_are_harmless() -> None:
    """In a cgroup that is nearly full, a process with a name that would steer a terminal."""
    with own_memcg(12 * MIB) as memcg, holder(1000, 8, memcg.procs) as process:
        seen = prediction.look()
    lines = list(prediction.lines(seen, Page(Terminal(120))))
    assert all(line.isprintable() for line in lines)
    told = seen.to_json()
    if process.pid in {one["pid"] for one in told["processes"]}:
        (line,) = (line for line in lines if f" {process.pid} " in line)
        assert "held-\\x1b[31m" in line
    for one in told["processes"]:
        assert any(str(one["pid"]) in line.split() for line in lines)
    for near in told["memcgs"]:
        assert any(line.strip().startswith(f"{near['path']}: ") for line in lines)
