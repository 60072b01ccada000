"""The agent's cost of real kills, and of its start."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.commands.demo.receiver import Receiver
from tests.bench.backends import LatencyBackend
from tests.bench.measurement import read_cpu_s, read_rss_mb
from tests.testlib.agent import Agent, run_agent
from tests.testlib.kernel.kills import kill_one
from tests.testlib.wait import wait_until

KILLS: Final = 40

_FIRST_SHARE: Final = 4
_SETTLE_S: Final = 2.0
_LIMIT_S: Final = 300.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class KillCost(Struct, frozen=True):
    """The agent's CPU time of a kill, and the median time from its mark to the receiver."""

    cpu_ms: float
    latency_ms: float


@contextmanager
def run_beside_backend() -> Iterator[tuple[Agent, LatencyBackend]]:
    """Run an agent that sends to a backend of this process."""
    backend = LatencyBackend()
    with Receiver(backend) as receiver, run_beside(receiver.url) as agent:
        yield agent, backend


@contextmanager
def run_beside(url: str) -> Iterator[Agent]:
    """Run an agent that sends to ``url``, with a new store."""
    # Not /tmp, which may be in memory instead of on a disk.
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        run_agent(Path(folder), {"OTEL_EXPORTER_OTLP_ENDPOINT": url}, ready=False) as agent,
    ):
        # An emulated machine may need longer than a real one.
        agent.manager.settimeout(_LIMIT_S)
        assert agent.manager.recv(4096) == b"READY=1", agent.log_text()
        yield agent


def measure_kills(agent: Agent, backend: LatencyBackend, count: int = KILLS) -> KillCost:
    """Make kills in one cgroup each, one after another."""
    # The first ones load what the later ones use.
    _make_kills(count // _FIRST_SHARE, backend)
    time.sleep(_SETTLE_S)
    before = read_cpu_s(agent)
    pids = _make_kills(count, backend)
    time.sleep(_SETTLE_S)
    cpu_ms = (read_cpu_s(agent) - before) / count * 1e3
    return KillCost(cpu_ms, statistics.median(backend.latencies_ms[pid] for pid in pids))


def _make_kills(count: int, backend: LatencyBackend) -> list[int]:
    pids = kill_one_by_one(count)
    wait_until(lambda: backend.latencies_ms.keys() >= set(pids), "the kills", limit=_LIMIT_S)
    return pids


def kill_one_by_one(count: int) -> list[int]:
    """Have the kernel kill processes, each in a cgroup of its own; return their pids."""
    return [kill_one() for _ in range(count)]


def measure_start(agent: Agent) -> tuple[float, float]:
    """Return the CPU seconds of an agent that has just started, and its RSS in 10^6 bytes."""
    time.sleep(_SETTLE_S)
    return read_cpu_s(agent), read_rss_mb(agent)


def measure_command_s(*words: str | Path) -> float:
    """Run a command, and return its CPU seconds, with those of its children.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before = os.times()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user - before.children_user
    return used + after.children_system - before.children_system
