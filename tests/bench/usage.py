"""Cost of sampling usage: agents with it and without it run at once, and record the same kills.

Two do not sample: how far they differ is the noise of the machine.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux.cgroupfs import read_flat_keyed, read_single_value
from otel_oom.snapshot.usage.recorder import THREAD_NAME
from tests.bench.backends import LatencyBackend
from tests.bench.measurement import Measurement, read_cpu_s, read_rss_mb
from tests.testlib.agent import Agent, run_agent
from tests.testlib.kernel.kills import kill_one
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.testlib.wait import wait_until

_LIMIT = 1 << 30
_SIZES = ((1000, 500), (10_000, 0))
"""Cgroups with a limit, and processes in them."""
_KILLS = 150
_FIRST_KILLS = 10
_IDLE_S = 60.0
_WALK_S = 300.0
_LESS_OFTEN = "sampled less often"


class _Measured:
    """An agent, its cgroup and its backend."""

    def __init__(self, name: str, interval: str, stack: ExitStack) -> None:
        self.name = name
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.backend = LatencyBackend()
        self.memcg = stack.enter_context(own_memcg(_LIMIT))
        receiver = stack.enter_context(Receiver(self.backend))
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_OOM_USAGE_INTERVAL": interval,
        }
        prefix = cgroup_prefix(self.memcg)
        self.agent: Agent = stack.enter_context(run_agent(folder, environ, prefix=prefix))

    def has_received(self, pids: Collection[int]) -> bool:
        """Return whether the logs of these victims are there."""
        return self.backend.latencies_ms.keys() >= set(pids)

    def kernel_mb(self) -> float:
        """Return the kernel's own memory for the agent, such as that of open files."""
        v1 = read_single_value(self.memcg.folder / "memory.kmem.usage_in_bytes")
        stat = read_flat_keyed(self.memcg.folder / "memory.stat")
        return (stat.get("kernel", 0) if v1 is None else v1) / 1e6


def measure_usage() -> Iterator[Measurement]:
    """Measure CPU, memory and the delay of kills, with sampling and without."""
    for count, processes in _SIZES:
        with ExitStack() as stack:
            stack.enter_context(many_cgroups(count, processes))
            # In this order: a kill wakes the agents in that of their start.
            plain = _Measured("off", "off", stack)
            sampling = _Measured("sampling", "5s", stack)
            other = _Measured("off, again", "off", stack)
            wait_until(partial(_has_walked, sampling.agent), "the first walk", limit=_WALK_S)
            yield from _compare(f"{count:,} cgroups", sampling, plain, other)


def _has_walked(agent: Agent) -> bool:
    return _LESS_OFTEN in agent.log_text()


def _compare(
    name: str, sampling: _Measured, plain: _Measured, other: _Measured
) -> Iterator[Measurement]:
    before = read_cpu_s(sampling.agent, THREAD_NAME)
    time.sleep(_IDLE_S)
    cpu = (read_cpu_s(sampling.agent, THREAD_NAME) - before) / _IDLE_S * 100
    yield Measurement(f"{name}: CPU of sampling", cpu, "% of a core", 0.05)
    rss = read_rss_mb(sampling.agent) - read_rss_mb(plain.agent)
    yield Measurement(f"{name}: RSS of sampling", rss, "MB", 2)
    kernel = sampling.kernel_mb() - plain.kernel_mb()
    yield Measurement(f"{name}: kernel memory of sampling", kernel, "MB")
    pids = [kill_one() for _ in range(_KILLS)]
    for each in (sampling, plain, other):
        wait_until(partial(each.has_received, pids), "the kills", limit=60)
        # The first kills load what the later ones use.
        latencies = [each.backend.latencies_ms[pid] for pid in pids[_FIRST_KILLS:]]
        cuts = statistics.quantiles(latencies, n=100, method="inclusive")
        yield Measurement(f"{name}: kernel to receiver, p50, {each.name}", cuts[49], "ms")
        yield Measurement(f"{name}: kernel to receiver, p99, {each.name}", cuts[98], "ms")


@contextmanager
def many_cgroups(count: int, processes: int) -> Iterator[None]:
    """Make cgroups with a limit, the first ones of which have a process."""
    with own_memcg(_LIMIT) as parent, ExitStack() as stack:
        parent.delegate_memory()
        limit_file = "memory.limit_in_bytes" if parent.v1 else "memory.max"
        for number in range(count):
            folder = parent.folder / f"job-{number:05d}"
            folder.mkdir()
            stack.callback(folder.rmdir)
            (folder / limit_file).write_text(str((64 + number % 64) << 20))
            if number < processes:
                stack.callback(_start_sleep(folder))
        yield


def _start_sleep(folder: Path) -> Callable[[], None]:
    procs = str(folder / "cgroup.procs")
    process = subprocess.Popen(["/bin/sh", "-c", 'echo $$ > "$0" && exec sleep 3600', procs])

    def end() -> None:
        process.kill()
        process.wait()

    return end
