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

from google.protobuf.message import Message

from otel_oom.commands.demo.receiver import Receiver, Reply
from tests.bench.measurement import Measurement, read_rss_mb
from tests.testlib.agent import Agent, run_agent
from tests.testlib.kernel.kills import kill_many, kill_one
from tests.testlib.kernel.loaded_programs import list_loaded_programs
from tests.testlib.servers.backend import Backend

KILLS = 100
STARTS = 10
IDLE_S = 30.0
_SETTLE_S = 2.0
_BPF_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
_NS_PER_MS = 1e6
_MARK_PROGRAM = "mark_victim"
"""The beginning of the name of the program that records a kill."""


class _TimedBackend(Backend):
    """A backend that measures the time from the kernel's mark to the arrival of each log."""

    def __init__(self) -> None:
        super().__init__()
        self.latencies_ms: list[float] = []

    def __call__(self, request: Message) -> Reply | None:
        now = time.time_ns()
        before = len(self.logs)
        reply = super().__call__(request)
        self.latencies_ms += [
            (now - log.item.time_unix_nano) / _NS_PER_MS for log in self.logs[before:]
        ]
        return reply


def measure_start() -> Iterator[Measurement]:
    """Measure from the start of the process to READY."""
    took = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            with run_agent(Path(folder), {}):
                took.append(time.monotonic() - began)
    yield Measurement("process start to capturing, median", statistics.median(took), "s", 0.15)


def measure_agent() -> Iterator[Measurement]:
    """Measure one agent from its start, when idle, with single kills and in a storm."""
    backend = _TimedBackend()
    with (
        tempfile.TemporaryDirectory() as folder,
        Receiver(backend) as receiver,
        _enable_bpf_stats(),
        run_agent(Path(folder), {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as agent,
    ):
        time.sleep(_SETTLE_S)
        yield Measurement("RSS after start", read_rss_mb(agent), "MB", 32)

        cpu = _read_cpu_s(agent)
        time.sleep(IDLE_S)
        idle = (_read_cpu_s(agent) - cpu) / IDLE_S * 100
        yield Measurement(f"CPU while idle for {IDLE_S:.0f} s", idle, "% of a core", 0.05)

        for number in range(KILLS):
            kill_one()
            backend.wait_for(number + 1, within_s=30)
        cuts = statistics.quantiles(backend.latencies_ms, n=100, method="inclusive")
        yield Measurement("kernel to receiver, p50", cuts[49], "ms", 5)
        yield Measurement("kernel to receiver, p90", cuts[89], "ms")
        yield Measurement("kernel to receiver, p99", cuts[98], "ms", 25)
        yield Measurement(f"RSS after {KILLS} kills", read_rss_mb(agent), "MB", 32)
        yield Measurement("kernel cost of a kill, mean", _read_run_us(agent), "µs", 5)

        began = time.monotonic()
        kill_many(KILLS, at_once=os.cpu_count() or 1)
        killing_s = time.monotonic() - began
        backend.wait_for(2 * KILLS, within_s=60)
        yield Measurement("storm: kills a second that the machine makes", KILLS / killing_s, "1/s")
        behind = time.monotonic() - began - killing_s
        yield Measurement("storm: last kill made to all received", behind, "s")
        yield Measurement(f"RSS after {2 * KILLS} kills", read_rss_mb(agent), "MB", 32)

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


def _read_cpu_s(agent: Agent) -> float:
    """Return the CPU time so far, by the scheduler's nanosecond count of each thread."""
    tasks = Path(f"/proc/{agent.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


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
    """Return the mean run time of the program at mark_victim, by the kernel."""
    (mark,) = (
        program
        for program in list_loaded_programs(agent.process.pid)
        if program.name.startswith(_MARK_PROGRAM)
    )
    return mark.run_ns / max(mark.runs, 1) / 1000
