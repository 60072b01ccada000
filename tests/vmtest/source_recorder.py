"""Sources that are drained as their events come, and the events of each."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from otel_oom.capture.source import Source
from otel_oom.model.events import CapturedEvent, OomKill, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import TaskList

_POLL_S: Final = 0.1
_ENDS_S: Final = 30.0

EventT = TypeVar("EventT", bound=CapturedEvent)


class CompletedKill(NamedTuple):
    """A kill with its report, and the state that was read at once."""

    kill: OomKill
    snapshot: Snapshot
    scanned: TaskList | None


@dataclass(frozen=True)
class SourceRecorder:
    """A source, and the events that it has captured."""

    source: Source
    complete: Callable[[OomKill], CompletedKill] | None = None
    """Completes each kill at once."""
    events: list[CapturedEvent] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    scanned: list[TaskList | None] = field(default_factory=list)

    def drain(self) -> int:
        """Record the waiting events, and return their number."""
        return self.source.drain(self._record)

    def _record(self, event: CapturedEvent) -> None:
        if self.complete and isinstance(event, OomKill):
            event, snapshot, scanned = self.complete(event)
            self.snapshots.append(snapshot)
            self.scanned.append(scanned)
        self.events.append(event)

    def of_type(self, event_type: type[EventT]) -> list[EventT]:
        """Return the events of one type."""
        return [event for event in self.events if isinstance(event, event_type)]


@contextmanager
def drain_in_background(recorders: Sequence[SourceRecorder]) -> Iterator[None]:
    """Drain all of them meanwhile, as the agent does: entries of /proc are soon gone."""
    by_source = {recorder.source: recorder for recorder in recorders}
    over = threading.Event()

    def follow() -> None:
        while not over.is_set():
            ready, _, _ = select.select(by_source, [], [], _POLL_S)
            for source in ready:
                by_source[source].drain()

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        try:
            yield
        finally:
            over.set()
            following.result()


def drain_until_ended(recorders: Sequence[SourceRecorder], count: int) -> None:
    """Drain until the first has ``count`` exits or the time is over, and no event is left."""
    deadline = time.monotonic() + _ENDS_S
    while True:
        drained = sum(recorder.drain() for recorder in recorders)
        ended = len(recorders[0].of_type(VictimExit)) >= count
        if not drained and (ended or time.monotonic() > deadline):
            return
        select.select([recorder.source for recorder in recorders], [], [], _POLL_S)
