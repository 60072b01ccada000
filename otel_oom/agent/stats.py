"""What each stage has done since the agent started, counted where it happens.

Plain numbers, each raised by one thread alone: counting on the path of a kill takes no lock and
can't fail. What they mean to OpenTelemetry is said in :mod:`otel_oom.agent.metrics.instruments`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from otel_oom.model.events import (
    CapturedEvent,
    LostEvents,
    NoVictim,
    OomKill,
    ReaperStep,
    UserspaceKill,
    VictimExit,
)

_COUNTED: Final = (OomKill, UserspaceKill, NoVictim, VictimExit, ReaperStep)
"""Types of events that have a series from the start."""


class Stats:
    """The numbers; whoever shows them reads them as they are."""

    def __init__(self) -> None:
        """Begin at zero, with a place for everything that can happen on the path of a kill."""
        self.captured = {type_.kind: 0 for type_ in _COUNTED}
        """Events that a source handed over."""
        self.stored = {type_.kind: 0 for type_ in _COUNTED}
        """Those of them that are on disk, synced, and were not before."""
        self.loss = LostEvents()
        """What the source had no room for, by its own account."""
        self.fullest = 0
        """The most that the kernel's buffer held for us since this was last set back, in bytes."""
        self.exported: Counter[tuple[str, str]] = Counter()
        """Messages that a backend decided on, by signal and what was wrong: nothing, if taken."""
        self.record_lag: Callable[[str, Iterable[float]], None] | None = None
        """Takes a signal, and the seconds from the kernel to the backend of messages of it."""
        self._last: CapturedEvent | None = None

    def capture(self, event: CapturedEvent) -> None:
        """Count an event that comes from a source; one that comes again is the same one."""
        if event is not self._last:
            self.captured[event.kind] += 1
        self._last = event

    def store(self, event: CapturedEvent) -> None:
        """Count an event that has reached the disk."""
        self.stored[event.kind] += 1

    def held(self, used: int) -> None:
        """Note how much the kernel's buffer holds, in bytes."""
        self.fullest = max(self.fullest, used)

    def take_fullest(self) -> int:
        """The most that it held since this was last asked, in bytes."""
        fullest, self.fullest = self.fullest, 0
        return fullest
