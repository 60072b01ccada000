"""Metrics of the agent as a process: semantic conventions 1.44, "Process metrics".

Without the processes that it starts, such as ``journalctl``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_oom.linux import clock
from otel_oom.linux.process import ProcessDir
from otel_oom.linux.procfs import read_text
from otel_oom.model.units import NS_PER_S, PAGE_BYTES

_MAX_BYTES: Final = 512
_IO: Final = re.compile(r"(?m)^(read|write)_bytes: (\d+)$")


def add_process_instruments(meter: Meter) -> None:
    """Add the instruments to ``meter``; each reads /proc at a collection."""
    stat = ProcessDir("self").read_stat()
    start_ns = (stat and stat.start_boottime_ns) or clock.boottime_ns()
    meter.create_observable_counter(
        "process.cpu.time", [_observe_cpu_time], "s", "CPU time of the agent, by mode."
    )
    meter.create_observable_counter(
        "process.disk.io",
        [_observe_disk_io],
        "By",
        "Bytes that the agent read from and wrote to disks.",
    )
    for name, read, unit, description in (
        ("memory.usage", lambda: _read_memory(1), "By", "Resident memory of the agent."),
        ("memory.virtual", lambda: _read_memory(0), "By", "Virtual memory of the agent."),
        ("thread.count", lambda: _count_entries("task"), "{thread}", "Threads of the agent."),
        (
            "unix.file_descriptor.count",
            lambda: _count_entries("fd"),
            "{file_descriptor}",
            "File descriptors that the agent has open.",
        ),
    ):
        meter.create_observable_up_down_counter(
            f"process.{name}", [_observe(read)], unit, description
        )
    meter.create_observable_gauge(
        "process.uptime",
        [lambda _: [Observation((clock.boottime_ns() - start_ns) / NS_PER_S)]],
        "s",
        "Time since the start of the agent.",
    )


def _observe(read: Callable[[], int | None]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Observe a number of /proc; none where it can't be read."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        value = read()
        return [] if value is None else [Observation(value)]

    return observe


def _observe_cpu_time(_: CallbackOptions) -> Iterable[Observation]:
    times = os.times()
    for mode, seconds in (("user", times.user), ("system", times.system)):
        yield Observation(seconds, {"cpu.mode": mode})


def _observe_disk_io(_: CallbackOptions) -> Iterable[Observation]:
    for direction, count in _IO.findall(read_text("/proc/self/io", _MAX_BYTES) or ""):
        yield Observation(int(count), {"disk.io.direction": direction})


def _read_memory(column: int) -> int | None:
    """Return a column of proc_pid_statm(5) in bytes: 0 is virtual, 1 resident memory."""
    text = read_text("/proc/self/statm", _MAX_BYTES)
    return int(text.split()[column]) * PAGE_BYTES if text else None


def _count_entries(folder: str) -> int | None:
    try:
        return len(os.listdir(f"/proc/self/{folder}"))  # noqa: PTH208  no Path for each
    except OSError:
        return None
