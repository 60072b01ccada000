"""Statistics of all stages since the agent started, counted where events happen.

Plain numbers, each written by one thread: counting on the path of a kill takes no lock and can't
fail. :mod:`otel_oom.agent.metrics.instruments` maps them to OpenTelemetry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from otel_oom.capture.source import SupportsBufferStats
from otel_oom.model import events, loss

KINDS: Final = (
    *(events.OomKill.kind, events.UserspaceKill.kind, events.NoVictim.kind),
    *(events.VictimExit.kind, events.ReaperStep.kind),
)
"""Kinds of events that are counted."""


class Stats:
    """Counters and gauges; readers use them as they are."""

    def __init__(self, buffer: SupportsBufferStats | None = None) -> None:
        """Start at zero; ``buffer`` is the kernel's ring buffer, if the source has one."""
        self.buffer = buffer
        self.captured = dict.fromkeys(KINDS, 0)
        """Events received from a source."""
        self.stored = dict.fromkeys(KINDS, 0)
        """New events on disk, synced."""
        self.lost = loss.LostEvents()
        """Events lost by the source."""
        self.dropped_records = 0
        """Undecodable records for which the quarantine had no space."""
        self.exported: Counter[tuple[str, str]] = Counter()
        """Messages with a final result, by signal and error type (empty if accepted)."""
        self.parked: dict[str, int] = {}
        """Messages that a backend keeps rejecting alone, by signal; they are in the outbox."""
        self.record_delays: Callable[[str, Iterable[float]], None] | None = None
        """Records the delays of messages of a signal, from kernel to backend, in seconds."""
        self._buffer_peak_bytes = 0
        self._last: events.CapturedEvent | None = None

    def on_captured(self, event: events.CapturedEvent) -> None:
        """Count an event from a source; a second delivery of the same one is not counted."""
        if event is not self._last:
            self.captured[event.kind] += 1
        self._last = event

    def on_stored(self, event: events.CapturedEvent) -> None:
        """Count an event that reached the disk."""
        self.stored[event.kind] += 1

    def observe_buffer(self) -> None:
        """Update the peak usage of the kernel's buffer."""
        if self.buffer:
            self._buffer_peak_bytes = max(self._buffer_peak_bytes, self.buffer.buffered_bytes())

    def take_buffer_peak(self) -> int:
        """Return the peak usage since the last call, in bytes."""
        self.observe_buffer()
        peak, self._buffer_peak_bytes = self._buffer_peak_bytes, 0
        return peak
