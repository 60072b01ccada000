"""Threads of delivery: restarted after a failure, busy or waiting, stalled or not."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from otel_oom.agent.stats import Stats
from otel_oom.export.result import ExportObserver

_LOG = logging.getLogger(__name__)

_RESTART_S: Final = 5.0

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
        self._request_begun = 0.0
        self.liveness = Liveness(STALL_LIMIT_S + timeout_s)

    def begin_step(self) -> None:
        """Note that a bounded step begins."""
        self.liveness.begin()

    def end_step(self) -> None:
        """Note that the thread waits, for any time."""
        self.liveness.end()

    def begin_request(self, channel: str, count: int) -> None:
        """Note that a request with ``count`` messages begins."""
        self._stats.in_flight[channel] = count
        self._request_begun = time.monotonic()

    def end_request(self, channel: str, error_type: str) -> None:
        """Record the duration of the request; ``error_type`` is empty for an accepted one."""
        self._stats.in_flight[channel] = 0
        if self._stats.record_request:
            duration_s = time.monotonic() - self._request_begun
            self._stats.record_request(channel, duration_s, error_type)

    def on_exported(self, channel: str, error_type: str, count: int) -> None:
        """Count messages with a final result."""
        self._stats.exported[channel, error_type] += count

    def on_parked(self, channel: str, count: int) -> None:
        """Note the number of parked messages."""
        self._stats.parked[channel] = count

    @property
    def wants_delays(self) -> bool:
        """Return true if metrics are on."""
        return self._stats.record_delays is not None

    def on_delivered(self, signal: str, delays_s: Iterable[float]) -> None:
        """Record the delays, in seconds."""
        if self._stats.record_delays:
            self._stats.record_delays(signal, delays_s)


class Worker:
    """A thread that repeats its work until stopped; the work resumes from the disk."""

    def __init__(
        self, name: str, work: Callable[[], None], stop: threading.Event, liveness: Liveness
    ) -> None:
        self._name = name
        self._work = work
        self._stop = stop
        self._liveness = liveness
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread; at once if it was never started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def health_error(self) -> str | None:
        """Return why a restart of the agent may help; ``None`` if the thread is healthy."""
        if self._thread.ident is not None and not self._thread.is_alive():
            return f"thread {self._name!r} has ended"
        stalled_s = self._liveness.stalled_s
        if stalled_s is not None:
            return f"thread {self._name!r} has been stalled for {stalled_s:.0f} s"
        return None

    def _run(self) -> None:
        reported = ""
        while not self._stop.is_set():
            try:
                self._work()
            except sqlite3.Error as error:
                if str(error) != reported:
                    _LOG.warning(
                        "Delivery: store failed: %s; retrying every %.0f s", error, _RESTART_S
                    )
                reported = str(error)
                self._stop.wait(_RESTART_S)
            except Exception:  # noqa: BLE001  a failure must not end delivery for good
                _LOG.exception("Delivery: thread %r failed; restarting it", self._name)
                self._stop.wait(_RESTART_S)
