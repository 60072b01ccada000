"""Liveness of the delivery threads: busy or waiting, stalled or not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from otel_oom.agent.stats import Stats
from otel_oom.export.result import ExportObserver

STALL_LIMIT_S: Final = 60.0
"""Longest step of a thread, apart from a request, which has its endpoint's timeout too."""


class Liveness:
    """State of one thread, which writes it; others read it."""

    def __init__(self, limit_s: float = STALL_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._begun: float | None = None

    def begin(self) -> None:
        """Note that a step begins."""
        self._begun = time.monotonic()

    def end(self) -> None:
        """Note that the thread waits, for any time."""
        self._begun = None

    @property
    def stalled_s(self) -> float | None:
        """Return the duration of the current step, if that exceeds the limit."""
        begun = self._begun
        if begun is None:
            return None
        duration_s = time.monotonic() - begun
        return duration_s if duration_s > self._limit_s else None


class ExporterStatus(ExportObserver):
    """Liveness and counts of one exporter, as it reports them."""

    def __init__(self, stats: Stats, timeout_s: float) -> None:
        """Count in ``stats``; a request takes at most ``timeout_s`` seconds."""
        self._stats = stats
        self.liveness = Liveness(STALL_LIMIT_S + timeout_s)

    def begin_step(self) -> None:
        """Note that a bounded step begins."""
        self.liveness.begin()

    def end_step(self) -> None:
        """Note that the thread waits, for any time."""
        self.liveness.end()

    def on_exported(self, signal: str, error_type: str, count: int) -> None:
        """Count messages with a final result."""
        self._stats.exported[signal, error_type] += count

    @property
    def wants_delays(self) -> bool:
        """Return true if metrics are on."""
        return self._stats.record_delays is not None

    def on_delivered(self, signal: str, delays_s: Iterable[float]) -> None:
        """Record the delays, in seconds."""
        if self._stats.record_delays:
            self._stats.record_delays(signal, delays_s)
