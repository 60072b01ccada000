"""A measurement, and the memory of an agent, which every part of the bench measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.testlib.agent import Agent


@dataclass(frozen=True)
class Measurement:
    """A measurement with its budget, if any."""

    name: str
    value: float | None
    """``None`` where this kernel does not have it."""
    unit: str
    budget: float | None = None


def read_rss_mb(agent: Agent) -> float:
    """Return the agent's RSS in units of 10^6 bytes."""
    return _read_status_mb(agent, "VmRSS:")


def read_peak_rss_mb(agent: Agent) -> float:
    """Return the agent's largest RSS so far."""
    return _read_status_mb(agent, "VmHWM:")


def _read_status_mb(agent: Agent, field: str) -> float:
    status = Path(f"/proc/{agent.process.pid}/status").read_text(encoding="ascii")
    kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))
    return kb * 1024 / 1e6


def read_cpu_s(agent: Agent, thread: str = "") -> float:
    """Return the CPU time so far, by the scheduler's nanosecond count of each thread.

    With ``thread``, it is that of threads of this name.
    """
    tasks = [
        task
        for task in Path(f"/proc/{agent.process.pid}/task").iterdir()
        if thread in {"", (task / "comm").read_text().strip()}
    ]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
