"""Start, latency, memory and CPU of the real agent with real kills."""

from __future__ import annotations

import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_oom.commands.demo.receiver import Receiver
from tests.bench.backends import LatencyBackend
from tests.bench.measurement import Measurement, read_cpu_s, read_rss_mb
from tests.testlib.agent import Agent, run_agent
from tests.testlib.kernel.kills import kill_many, kill_one
from tests.testlib.kernel.loaded_programs import list_loaded_programs

KILLS = 100
IDLE_S = 30.0
_SETTLE_S = 4.0
_BPF_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
_MARK_PROGRAM = "mark_victim"
"""The beginning of the name of the program that records a kill."""


def measure_agent() -> Iterator[Measurement]:
    """Measure one agent from its start, when idle, with single kills and in a storm."""
    backend = LatencyBackend()
    with (
        tempfile.TemporaryDirectory() as folder,
        Receiver(backend) as receiver,
        _enable_bpf_stats(),
        run_agent(Path(folder), {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as agent,
    ):
        time.sleep(_SETTLE_S)
        yield Measurement("RSS after start", read_rss_mb(agent), "MB", 32)

        cpu = read_cpu_s(agent)
        time.sleep(IDLE_S)
        idle = (read_cpu_s(agent) - cpu) / IDLE_S * 100
        yield Measurement(f"CPU while idle for {IDLE_S:.0f} s", idle, "% of a core", 0.05)

        for number in range(KILLS):
            kill_one()
            backend.wait_for(number + 1, within_s=30)
        cuts = statistics.quantiles(backend.latencies_ms.values(), n=100, method="inclusive")
        yield Measurement("kernel to receiver, p50", cuts[49], "ms", 5)
        yield Measurement("kernel to receiver, p90", cuts[89], "ms")
        yield Measurement("kernel to receiver, p99", cuts[98], "ms", 15)
        yield Measurement(f"RSS after {KILLS} kills", read_rss_mb(agent), "MB", 34)
        yield Measurement("kernel cost of a kill, mean", _read_run_us(agent), "µs", 5)

        began = time.monotonic()
        kill_many(KILLS, at_once=os.cpu_count() or 1)
        killing_s = time.monotonic() - began
        backend.wait_for(2 * KILLS, within_s=60)
        yield Measurement("storm: kills a second that the machine makes", KILLS / killing_s, "1/s")
        behind = time.monotonic() - began - killing_s
        yield Measurement("storm: last kill made to all received", behind, "s")
        yield Measurement(f"RSS after {2 * KILLS} kills", read_rss_mb(agent), "MB", 34)

        for program in list_loaded_programs(agent.process.pid):
            verified = program.verified_insns
            yield Measurement(
                f"verified: {program.name}",
                None if verified is None else float(verified),
                "instructions",
            )


def measure_sizes() -> Iterator[Measurement]:
    """Return what is fixed when the object is built."""
    from otel_oom.capture.bpf.records import VictimRecord  # noqa: PLC0415  beside its only use

    yield Measurement("record of a kill", float(len(bytes(VictimRecord()))), "bytes")


def describe_machine() -> dict[str, str]:
    """Describe the machine of the measurements."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "kernel": os.uname().release,
        "cpu": f"{os.cpu_count()} x {model}",
        "python": sys.version.split()[0],
        "host": socket.gethostname(),
    }


@contextmanager
def _enable_bpf_stats() -> Iterator[None]:
    """Let the kernel count and time the runs of BPF programs."""
    before = _BPF_STATS.read_text(encoding="ascii")
    _BPF_STATS.write_text("1", encoding="ascii")
    try:
        yield
    finally:
        _BPF_STATS.write_text(before, encoding="ascii")


def _read_run_us(agent: Agent) -> float:
    """Return the mean run time of all programs at mark_victim together, by the kernel."""
    return sum(
        program.run_ns / max(program.runs, 1) / 1000
        for program in list_loaded_programs(agent.process.pid)
        if program.name.startswith(_MARK_PROGRAM)
    )
