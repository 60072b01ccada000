"""A leak, a spike and a plateau at once, then a host-wide kill, each recorded by the agent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.linux.clock import boot_id, boottime_ns
from otel_oom.linux.temporary_cgroup import Cgroup
from otel_oom.model.units import NS_PER_S
from otel_oom.store import Store
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.speed import slowness
from tests.testlib.wait import wait_until
from tests.vmtest.programs import program_path

LIMIT: Final = 128 << 20
LEAK_MIB: Final = 2
"""MiB that the leak uses more each second."""
_SPIKE_S: Final = 5
PLATEAU_S: Final = 60
DISK_MIB: Final = (LIMIT >> 20) * 3 // 2
_LIMIT_S: Final = 100.0
_BEAT_S: Final = 0.25
_DEVICE: Final = "/dev/ram0"

SCENARIOS: Final[dict[str, tuple[str, ...]]] = {
    "leak": ("leak", str(LEAK_MIB)),
    "spike": ("spike", str(_SPIKE_S)),
    "plateau": ("plateau", str(PLATEAU_S), _DEVICE),
}
HOST: Final = "host"


def play_growth(state_dir: Path) -> dict[str, Any]:
    """Return each scenario's own record, the kills that the agent has stored, and its log.

    ``delays`` are the times at which this process was late, and by how much: the guest was starved.
    """
    with _run_agent(state_dir) as agent_pid, _disk(), _note_delays() as delays:
        with ThreadPoolExecutor(len(SCENARIOS)) as pool:
            grow = partial(_grow_cgroup, agent_pid)
            made = dict(zip(SCENARIOS, pool.map(grow, SCENARIOS), strict=True))
        made[HOST] = _grow(Cgroup(), ("spike", "0"))
    with Store(state_dir) as store:
        rows = store.pending_events(64, boot_id(), 1 << 62)
    stored = [to_builtins({"event": row.event, "snapshot": row.snapshot}) for row in rows]
    log = state_dir.with_suffix(".log").read_text(encoding="utf-8")
    return {"made": made, "delays": delays, "stored": stored, "log": log}


@contextmanager
def _run_agent(state_dir: Path) -> Iterator[int]:
    """Run the agent with its defaults, without the packages that only sending needs."""
    path = state_dir.with_suffix(".log")
    run = (sys.executable, "-S", "-B", "-m", "otel_oom", "run", "--state-dir", str(state_dir))
    environ = {**os.environ, "OTEL_SDK_DISABLED": "true"}
    limit_s = _LIMIT_S * slowness()
    with path.open("wb") as output, subprocess.Popen(run, stderr=output, env=environ) as agent:
        try:
            wait_until(
                lambda: b"Watching for containers" in path.read_bytes(), "start", limit=limit_s
            )
            yield agent.pid
        finally:
            agent.terminate()
            agent.wait(limit_s)


@contextmanager
def _disk() -> Iterator[None]:
    """Have a disk with more than the limit, which takes no memory while nothing is written."""
    _run("modprobe", "brd", "rd_nr=1", f"rd_size={DISK_MIB << 10}")
    try:
        yield
    finally:
        _run("modprobe", "-r", "brd")


def _run(*command: str) -> None:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    subprocess.run(command, check=True, env={"PATH": path}, stdout=subprocess.DEVNULL)


@contextmanager
def _note_delays() -> Iterator[list[tuple[int, int]]]:
    """Yield a list that gets the time and the length of each delay, in nanoseconds."""
    delays: list[tuple[int, int]] = []
    stop = threading.Event()

    def beat() -> None:
        due_ns = boottime_ns() + int(_BEAT_S * NS_PER_S)
        while not stop.wait(_BEAT_S):
            time_ns = boottime_ns()
            delays.append((time_ns, max(0, time_ns - due_ns)))
            due_ns = time_ns + int(_BEAT_S * NS_PER_S)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield delays
    finally:
        stop.set()
        thread.join()


def _grow_cgroup(agent_pid: int, name: str) -> dict[str, Any]:
    with own_memcg(LIMIT) as own:
        created_ns = boottime_ns()
        # The growth begins when the agent has a file of the cgroup open, which it samples.
        wait_until(
            lambda: _has_open_file_in(agent_pid, own.folder),
            "the agent's first sample",
            limit=_LIMIT_S * slowness(),
            every=0.5,
        )
        return {"created_ns": created_ns, **_grow(own, SCENARIOS[name])}


def _has_open_file_in(pid: int, folder: Path) -> bool:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if descriptor.readlink().parent == folder:
                return True
    return False


def _grow(memcg: Cgroup, words: Sequence[str]) -> dict[str, Any]:
    """Return the pid, the program's own record, and when it was dead, on CLOCK_BOOTTIME."""
    command = [str(program_path("grow")), str(memcg.procs), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=_LIMIT_S * slowness())
        dead_ns = boottime_ns()
    assert process.returncode == -9
    record = [[int(number) for number in line.split()] for line in output.splitlines()]
    return {"pid": process.pid, "record": record, "dead_ns": dead_ns}
