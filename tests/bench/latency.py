"""What a kill waits for from the kernel's mark to the receiver, with and without the console."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message
from msgspec import Struct

from otel_oom.commands.demo.receiver import Receiver, Reply
from tests.bench.measurement import Measurement
from tests.testlib.agent import run_agent
from tests.testlib.kernel.kills import kill_one
from tests.testlib.servers.backend import Backend

KILLS = 100
SETTLE_S = 2.0
PARTS: Final = ("kernel's printing", "wake-up", "snapshot", "sync", "encode", "send")
"""What a kill waits for, in this order; they add up to the whole."""

_PRINTK: Final = Path("/proc/sys/kernel/printk")
_QUIET: Final = "1"
_NS_PER_MS: Final = 1e6


class KillTimes(Struct, frozen=True):
    """Times of one kill on CLOCK_BOOTTIME, in nanoseconds.

    Each step of the agent is its begin and its end. The victim exits when the kernel has printed
    its own report.
    """

    marked: int
    exited: int
    recorded: int
    insert: tuple[int, int]
    complete: tuple[int, int]
    enqueue: tuple[int, int]
    received: int

    def split(self) -> dict[str, float]:
        """Return the milliseconds of each of the :data:`PARTS`."""
        if self.exited <= self.recorded:
            # The agent was not woken, or not run, before the kernel had printed.
            printed = self.exited - self.marked
            woken = self.recorded - self.exited
        else:
            printed, woken = 0, self.recorded - self.marked
        snapshot = self.insert[0] - self.recorded + self.complete[0] - self.insert[1]
        parts = {
            "kernel's printing": printed,
            "wake-up": woken,
            "snapshot": snapshot,
            "sync": sum(end - begin for begin, end in (self.insert, self.complete, self.enqueue)),
            "encode": self.enqueue[0] - self.complete[1],
            "send": self.received - self.enqueue[1],
        }
        return {name: nanoseconds / _NS_PER_MS for name, nanoseconds in parts.items()}


class TimedBackend(Backend):
    """A backend that notes the time of arrival of each log, by its uid."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: dict[str, int] = {}

    def __call__(self, request: Message) -> Reply | None:
        now, before = time.clock_gettime_ns(time.CLOCK_BOOTTIME), len(self.logs)
        reply = super().__call__(request)
        self.arrivals |= {log.uid: now for log in self.logs[before:]}
        return reply


def measure_latency() -> Iterator[Measurement]:
    """Measure two agents: one with a quiet console, one with the console as it is."""
    with quiet_console():
        yield from _measure("console quiet")
    yield from _measure("console as it is")


def _measure(console: str) -> Iterator[Measurement]:
    times = trace_kills(KILLS)
    parts = [each.split() for each in times]
    cuts = statistics.quantiles([sum(each.values()) for each in parts], n=100, method="inclusive")
    name = f"kernel to receiver, {console}"
    yield Measurement(f"{name}, p50", cuts[49], "ms", 5)
    yield Measurement(f"{name}, p99", cuts[98], "ms", 15)
    for part in PARTS:
        median = statistics.median(each[part] for each in parts)
        yield Measurement(f"of it {part}, median", median, "ms")


def trace_kills(count: int) -> Sequence[KillTimes]:
    """Make kills one after the other beside a traced agent; return the times of each."""
    backend = TimedBackend()
    with tempfile.TemporaryDirectory() as folder, Receiver(backend) as receiver:
        trace = Path(folder) / "trace.json"
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        prefix = (sys.executable, "-m", "tests.bench.traced_agent", str(trace))
        with run_agent(Path(folder), environ, prefix=prefix) as agent:
            time.sleep(SETTLE_S)
            pids = []
            for number in range(count):
                pids.append(kill_one())
                backend.wait_for(number + 1, within_s=30)
            agent.stop()
        noted = json.loads(trace.read_text(encoding="ascii"))
    return list(_join(noted, backend))


def _join(noted: Mapping[str, Any], backend: TimedBackend) -> Iterator[KillTimes]:
    steps: dict[tuple[str, str], tuple[int, int]] = {}
    for name, uid, begin_ns, end_ns in noted["steps"]:
        # The first time counts: a span is enqueued as well.
        steps.setdefault((name, uid), (begin_ns, end_ns))
    for uid, received in backend.arrivals.items():
        pid, marked = noted["kills"][uid]
        yield KillTimes(
            marked=marked,
            exited=noted["exits"][str(pid)],
            recorded=steps["record", uid][0],
            insert=steps["insert", uid],
            complete=steps["complete", uid],
            enqueue=steps["enqueue", uid],
            received=received,
        )


@contextmanager
def quiet_console() -> Iterator[None]:
    """Print no message of the kernel on the console, as ``dmesg -n 1`` does."""
    before = _PRINTK.read_text(encoding="ascii")
    _PRINTK.write_text(_QUIET, encoding="ascii")
    try:
        yield
    finally:
        _PRINTK.write_text(before.split()[0], encoding="ascii")
