"""A measured figure, and the memory of an agent, which every part of the bench measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.testlib.agent import Agent


@dataclass(frozen=True)
class Figure:
    """One figure and the budget it is held against; ``None`` where there is none."""

    name: str
    value: float | None
    """``None`` where this kernel does not tell."""
    unit: str
    budget: float | None = None


def rss_mb(running: Agent) -> float:
    """What it holds now, in units of 10^6 bytes."""
    return _status_mb(running, "VmRSS:")


def peak_rss_mb(running: Agent) -> float:
    """What it has held at the most."""
    return _status_mb(running, "VmHWM:")


def _status_mb(running: Agent, field: str) -> float:
    status = Path(f"/proc/{running.process.pid}/status").read_text(encoding="ascii")
    kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))
    return kb * 1024 / 1e6
