"""The OOM prediction, compared with the kernel's own scores and with its real choice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import to_builtins
from rich.cells import cell_len

from otel_oom.commands.console.output import new_console, render
from otel_oom.commands.doctor.next_victim import ProcessTable
from otel_oom.commands.doctor.page import render_prediction
from otel_oom.commands.doctor.prediction import nearest_to_limit, predict
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.snapshot.host_stats import read_host_memory
from tests.testlib.kernel.memcg import own_memcg

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
    memory = read_host_memory().memory
    return memory["total"] + memory.get("swap_total", 0)


def test_the_highest_score_is_first() -> None:
    with holder(adjusted=999) as second, holder(adjusted=1000) as first:
        # Another process of this host that is adjusted as far may be larger.
        victims = [
            victim
            for victim in ProcessTable().first_victims(capacity(), ALL)
            if victim.pid in {first.pid, second.pid}
        ]
        score = int(Path(f"/proc/{first.pid}/oom_score").read_text(encoding="ascii"))
    assert [victim.pid for victim in victims] == [first.pid, second.pid]
    assert (victims[0].oom_score, victims[0].oom_score_adj) == (score, 1000)
    assert victims[0].comm == "held-\x1b[31m"
    assert victims[0].total_bytes >= 8 * MIB


def test_neither_init_nor_this_process_is_a_victim() -> None:
    pids = {victim.pid for victim in ProcessTable().first_victims(capacity(), ALL)}
    assert pids
    assert not pids & {1, os.getpid()}


def test_the_kernel_kills_the_predicted_victim_of_a_cgroup() -> None:
    mount = CgroupMount.find()
    assert mount
    with (
        own_memcg(48 * MIB) as memcg,
        holder(0, 24, memcg.procs) as large,
        holder(300, 4, memcg.procs) as adjusted,
    ):
        headrooms = nearest_to_limit(mount, ProcessTable(), ALL)
        headroom = next(headroom for headroom in headrooms if headroom.path == memcg.path)
        assert headroom.limit_bytes == 48 * MIB
        assert 28 * MIB <= headroom.used_bytes <= 48 * MIB
        assert headroom.victim
        # The larger one allocates more than there is.
        assert large.stdin
        large.stdin.write(b"40\n")
        large.stdin.flush()
        victim = {large.pid: large, adjusted.pid: adjusted}[headroom.victim.pid]
        assert victim.wait(60) == -signal.SIGKILL


def test_the_page_and_the_json_agree_and_names_are_escaped() -> None:
    with own_memcg(12 * MIB) as memcg, holder(1000, 8, memcg.procs) as process:
        prediction = predict()
    lines = render(render_prediction(prediction), new_console(120)).splitlines()
    assert all(line.isprintable() for line in lines)
    assert max(map(cell_len, lines)) <= 120
    report = to_builtins(prediction)
    if process.pid in {victim["pid"] for victim in report["victims"]}:
        (line,) = (line for line in lines if f" {process.pid} " in line)
        assert "held-\\x1b[31m" in line
    for victim in report["victims"]:
        assert any(str(victim["pid"]) in line.split() for line in lines)
    for headroom in report["memcgs"]:
        assert f"• {headroom['path']}:"[:60] in "\n".join(lines)
