"""Each figure of the bench: measured on the real agent with real kills, in one run."""

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
from tests.bench.figure import Figure, rss_mb
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
_MARK = "mark_victim"
"""How the programs begin that see a kill, of which one is loaded."""


class _TimedBackend(Backend):
    """A backend that notes how long each log took from the kernel's clock to its arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.took_ms: list[float] = []

    def __call__(self, request: Message) -> Reply | None:
        now = time.time_ns()
        before = len(self.logs)
        reply = super().__call__(request)
        self.took_ms += [(now - log.item.time_unix_nano) / _NS_PER_MS for log in self.logs[before:]]
        return reply


def starts() -> Iterator[Figure]:
    """From the start of the process to READY, the median of a few."""
    took = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            with run_agent(Path(folder), {}):
                took.append(time.monotonic() - began)
    yield Figure("process start to capturing, median", statistics.median(took), "s", 0.15)


def life() -> Iterator[Figure]:
    """One agent through start, idleness, single kills and a storm."""
    backend = _TimedBackend()
    with (
        tempfile.TemporaryDirectory() as folder,
        Receiver(backend) as receiver,
        _bpf_stats(),
        run_agent(Path(folder), {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as running,
    ):
        time.sleep(_SETTLE_S)
        yield Figure("RSS after start", rss_mb(running), "MB", 32)

        cpu = _cpu_s(running)
        time.sleep(IDLE_S)
        idle = (_cpu_s(running) - cpu) / IDLE_S * 100
        yield Figure(f"CPU while idle for {IDLE_S:.0f} s", idle, "% of a core", 0.05)

        for number in range(KILLS):
            kill_one()
            backend.wait_for(number + 1, within_s=30)
        cuts = statistics.quantiles(backend.took_ms, n=100, method="inclusive")
        yield Figure("kernel to receiver, p50", cuts[49], "ms", 5)
        yield Figure("kernel to receiver, p90", cuts[89], "ms")
        yield Figure("kernel to receiver, p99", cuts[98], "ms", 25)
        yield Figure(f"RSS after {KILLS} kills", rss_mb(running), "MB", 32)
        yield Figure("kernel cost of a kill, mean", _cost_us(running), "µs", 5)

        began = time.monotonic()
        kill_many(KILLS, at_once=os.cpu_count() or 1)
        made = time.monotonic() - began
        backend.wait_for(2 * KILLS, within_s=60)
        yield Figure("storm: kills a second that the machine makes", KILLS / made, "1/s")
        behind = time.monotonic() - began - made
        yield Figure("storm: last kill made to all received", behind, "s")
        yield Figure(f"RSS after {2 * KILLS} kills", rss_mb(running), "MB", 32)

        for program in list_loaded_programs(running.process.pid):
            verified = program.verified_insns
            yield Figure(
                f"verified: {program.name}",
                None if verified is None else float(verified),
                "instructions",
            )


def sizes() -> Iterator[Figure]:
    """What is fixed when the object is built."""
    from otel_oom.capture.bpf.records import VictimRecord  # noqa: PLC0415  beside its only use

    yield Figure("record of a kill", float(len(bytes(VictimRecord()))), "bytes")


def machine() -> dict[str, str]:
    """On what all this was measured."""
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


def _cpu_s(running: Agent) -> float:
    """Processor time so far, of the scheduler's own nanosecond account of each thread."""
    tasks = Path(f"/proc/{running.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def _bpf_stats() -> Iterator[None]:
    """The kernel counts and times the runs of BPF programs meanwhile."""
    before = _BPF_STATS.read_text(encoding="ascii")
    _BPF_STATS.write_text("1", encoding="ascii")
    try:
        yield
    finally:
        _BPF_STATS.write_text(before, encoding="ascii")


def _cost_us(running: Agent) -> float:
    """The mean run of the program at mark_victim, as the kernel timed it."""
    (mark,) = (
        program
        for program in list_loaded_programs(running.process.pid)
        if program.name.startswith(_MARK)
    )
    return mark.run_ns / max(mark.runs, 1) / 1000
