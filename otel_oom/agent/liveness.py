"""Liveness of the threads that deliver: at work since when, and stuck or not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from otel_oom.agent.stats import Stats
from otel_oom.export.observer import ExportObserver

STUCK_S: Final = 60.0
"""No step of a thread takes longer, but for a request, which has its endpoint's timeout too."""


class Liveness:
    """Whether a thread is at work, and since when; written by that thread, read by others."""

    def __init__(self, limit_s: float) -> None:
        """A thread no step of which takes longer than ``limit_s`` seconds, unless it is stuck."""
        self._limit_s = limit_s
        self._since: float | None = None

    def busy(self) -> None:
        """A step begins."""
        self._since = time.monotonic()

    def rest(self) -> None:
        """What follows is a wait that may take any time."""
        self._since = None

    @property
    def stuck_s(self) -> float | None:
        """How long the thread has been at one step, if that is longer than it can take."""
        since = self._since
        if since is None:
            return None
        took = time.monotonic() - since
        return took if took > self._limit_s else None


class ExporterStatus(ExportObserver):
    """Liveness and counts of one exporter, as it reports them."""

    def __init__(self, counts: Stats, timeout_s: float) -> None:
        """Count in ``counts``; a request takes ``timeout_s`` seconds at most."""
        self._counts = counts
        self.pulse = Liveness(STUCK_S + timeout_s)

    def begin_step(self) -> None:
        """Note that a bounded step begins."""
        self.pulse.busy()

    def rest(self) -> None:
        """Note that the thread waits, for any time."""
        self.pulse.rest()

    def exported(self, signal: str, error_type: str, count: int) -> None:
        """Count messages that a backend decided on."""
        self._counts.exported[signal, error_type] += count

    @property
    def measures_delays(self) -> bool:
        """Whether metrics want the delays."""
        return self._counts.record_lag is not None

    def delivered_after(self, signal: str, delays_s: Iterable[float]) -> None:
        """Record the delays, in seconds."""
        if self._counts.record_lag:
            self._counts.record_lag(signal, delays_s)
