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
from otel_oom.model.near_limit import NearLimit

KINDS: Final = (
    *(events.OomKill.kind, events.UserspaceKill.kind, events.NoVictim.kind),
    NearLimit.kind,
    *(events.VictimExit.kind, events.ReaperStep.kind, events.Panic.kind),
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
        """Messages with a final result, by channel and error type (empty if accepted)."""
        self.parked: dict[str, int] = {}
        """Messages that a backend keeps rejecting alone, by channel; they are in the outbox."""
        self.created_logs = 0
        """Log events that were encoded and queued."""
        self.in_flight: dict[str, int] = {}
        """Messages of the request that is under way, by channel."""
        self.record_request: Callable[[str, float, str], None] | None = None
        """Records a request of a channel: its duration in seconds and its error type."""
        self.processor_errors: Counter[tuple[str, str]] = Counter()
        """Events on which a processor failed, by its name and the type of error."""
        self.record_delays: Callable[[str, Iterable[float]], None] | None = None
        """Records the delays of messages of a signal, from kernel to backend, in seconds."""
        self.count_usage_cgroups: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Returns the cgroups whose usage is sampled, and those of the last round."""
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

    def on_event_of_thread(self, event: events.Panic | NearLimit) -> None:
        """Count an event that a thread of its own, the only one of the kind, has stored."""
        self.captured[event.kind] += 1
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
