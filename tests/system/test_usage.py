"""The minutes before a real kill, on this kernel's cgroups."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.config.usage import UsageConfig
from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.temporary_cgroup import Cgroup
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import MIB, NS_PER_S
from otel_oom.model.usage import Crossing, UsageHistory
from otel_oom.snapshot.usage.recorder import UsageRecorder
from tests.testlib.agent import run_agent
from tests.testlib.kernel.kills import wait_until_killed
from tests.testlib.kernel.memcg import CGROUP_MOUNT, cgroup_prefix, own_memcg
from tests.testlib.servers.backend import Backend, Received, filter_kills
from tests.testlib.wait import wait_until

pytestmark = [pytest.mark.usefixtures("real_kills"), pytest.mark.slow]

LIMIT = 48 * MIB
STEP = MIB

LEAK = f"""
import sys, time
held = []
while True:
    print(time.clock_gettime_ns(time.CLOCK_BOOTTIME), flush=True)
    held.append(b"x" * {STEP})
    time.sleep(0.1)
"""
"""It writes the time before each MiB that it allocates."""

HOLD = f"""
import sys, time
held = b"x" * int(sys.argv[1])
print("held", flush=True)
sys.stdin.read(1)
with open(sys.argv[2], "wb") as file:
    for _ in range(64):
        file.write(held[:{MIB}])
print("written", flush=True)
sys.stdin.read(1)
"""
"""It keeps memory, and then fills the rest of its limit with page cache."""


def stored_history(state_dir: Path) -> UsageHistory | None:
    with closing(sqlite3.connect(state_dir / "otel-oom.db")) as database:
        ((snapshot,),) = database.execute("SELECT snapshot FROM events WHERE kind = 'kill'")
    return msgspec.json.decode(snapshot, type=Snapshot).usage_history


def test_a_leak_is_recorded_as_it_was_up_to_the_limit(tmp_path: Path) -> None:
    environ = {"OTEL_OOM_USAGE_INTERVAL": "1s", "OTEL_SDK_DISABLED": "true"}
    with run_agent(tmp_path, environ) as agent:
        made_ns = boottime_ns()
        with own_memcg(LIMIT) as memcg:
            command = [*cgroup_prefix(memcg), sys.executable, "-S", "-c", LEAK]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                wait_until_killed(process)
                assert process.stdout
                steps = [int(line) for line in process.stdout.read().split()]
            path = memcg.path
        agent.stop()
    history = stored_history(agent.state_dir)
    assert history
    assert history.limit
    assert history.host
    assert history.victim is None
    series = history.limit
    assert (series.path, series.limit, series.interval_ns) == (path, LIMIT, NS_PER_S)
    assert series.created_boottime_ns is not None
    # The kernel takes the time of its last tick (current_time()).
    tick_ns = NS_PER_S // 100
    assert made_ns - tick_ns <= series.created_boottime_ns <= series.times_boottime_ns[0]
    # Some pages are in the CPUs' stocks: the kernel charges 64 at once (MEMCG_CHARGE_BATCH).
    assert LIMIT - 2 * MIB <= series.values[-1] <= LIMIT
    assert steps[-1] <= series.end_boottime_ns <= steps[-1] + 5 * NS_PER_S
    growing = [
        (time_ns, value)
        for time_ns, value in zip(series.times_boottime_ns, series.values, strict=True)
        if steps[0] + NS_PER_S < time_ns < series.end_boottime_ns
    ]
    assert len(growing) >= 2
    missing_ns = (series.max_gap_ns or NS_PER_S) - NS_PER_S
    for time_ns, value in growing:
        # A sample may be late where the machine is busy, or missing: then the one before it stands
        # for it. The interpreter takes some MiB.
        before = sum(step <= time_ns - missing_ns for step in steps)
        after = sum(step <= time_ns + NS_PER_S for step in steps)
        assert (before - 1) * STEP <= value <= after * STEP + 16 * MIB
    total = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    assert history.host.limit == total
    assert len(history.host.values) >= len(growing)


@contextmanager
def hold(memcg: Cgroup, size: int, file: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program that keeps ``size`` bytes."""
    command = [*cgroup_prefix(memcg), sys.executable, "-S", "-c", HOLD, str(size), str(file)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def open_paths() -> set[str]:
    paths = set()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            paths.add(str(file.readlink()))
    return paths


def test_the_kernel_signals_that_a_cgroup_reaches_its_limit(tmp_path: Path) -> None:
    recorder = UsageRecorder(UsageConfig(1), CGROUP_MOUNT)
    recorder.start()
    try:
        with own_memcg(LIMIT) as memcg:
            both = memcg.folder / "memory.memsw.limit_in_bytes"
            if both.exists():
                # It is checked first (try_charge_memcg()), and Linux 6.18 counts no hits of it.
                both.write_text("-1")

            def crossings() -> dict[str, Crossing]:
                node = recorder.sampler.find(memcg.path)
                found = recorder.crossings.find([node]) if node else ()
                return {crossing.kind: crossing for crossing in found}

            def is_watched() -> bool:
                name = "memory.failcnt" if CGROUP_MOUNT.v1 else "memory.events"
                return str(memcg.folder / name) in open_paths()

            with hold(memcg, 26 * MIB, tmp_path / "file") as process:
                wait_until(is_watched, "the watch of the cgroup")
                assert crossings() == {}
                begun_ns = boottime_ns()
                assert process.stdin
                assert process.stdout
                process.stdin.write("x")
                process.stdin.flush()
                assert process.stdout.readline() == "written\n"
                wait_until(lambda: "max" in crossings(), "the signal")
                kinds = {"threshold", "max"} if CGROUP_MOUNT.v1 else {"max"}
                assert set(crossings()) == kinds
                for crossing in crossings().values():
                    assert crossing.path == memcg.path
                    assert begun_ns <= crossing.boottime_ns <= boottime_ns()
                if CGROUP_MOUNT.v1:
                    # The threshold signals at once, the count of hits is read in the next round.
                    threshold, hit = (crossings()[kind] for kind in ("threshold", "max"))
                    assert threshold.boottime_ns <= hit.boottime_ns
                time.sleep(2)
                assert len(recorder.crossings.find([recorder.sampler.find(memcg.path)])) == len(
                    kinds
                )
    finally:
        recorder.stop()


def near_limits(backend: Backend, path: str) -> list[Received]:
    return [
        log
        for log in backend.logs
        if log.item.event_name == "oom.near_limit"
        and log.attributes["oom.limit.memcg.path"] == path
    ]


def test_an_approach_is_sent_without_a_kill_and_before_one(tmp_path: Path) -> None:
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_OOM_USAGE_INTERVAL": "1s",
            "OTEL_OOM_NEAR_LIMIT": "90",
        }
        with run_agent(tmp_path, environ), own_memcg(LIMIT) as memcg:
            with hold(memcg, LIMIT * 90 // 100, tmp_path / "file") as process:
                wait_until(lambda: near_limits(backend, memcg.path), "the event", limit=20)
                time.sleep(2)
                pid = process.pid
            (near,) = near_limits(backend, memcg.path)
            command = [*cgroup_prefix(memcg), sys.executable, "-S", "-c", LEAK]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as victim:
                wait_until_killed(victim)
            wait_until(lambda: filter_kills(backend.logs, [victim.pid]), "the kill", limit=20)
    assert near.item.severity_number == 13
    assert near.attributes["oom.limit.memcg.limit"] == LIMIT
    assert LIMIT * 0.9 <= near.attributes["oom.near_limit.working_set"] <= LIMIT
    assert near.attributes["oom.largest_task.pid"] == pid
    assert near.attributes["oom.largest_task.memory.resident"] >= LIMIT * 0.85
    assert near.attributes["oom.growth.limit.usage"]
    assert not filter_kills(backend.logs, [pid])
    (kill,) = filter_kills(backend.logs, [victim.pid])
    assert kill.attributes["oom.growth.limit.usage"]
    # The second process may be faster than a round: it comes with or without an event, never two.
    later = near_limits(backend, memcg.path)[1:]
    assert len(later) <= 1
    assert all(log.item.time_unix_nano < kill.item.time_unix_nano for log in later)
