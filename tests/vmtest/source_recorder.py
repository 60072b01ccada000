"""Sources that are drained as their events come, and what each has told."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from otel_oom.capture.source import Source
from otel_oom.model.events import CapturedEvent, OomKill, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import TaskList

_LOOK_S: Final = 0.1
_ENDS_S: Final = 30.0


class Completed(NamedTuple):
    """A kill with its report, and what was read of it at once."""

    kill: OomKill
    snapshot: Snapshot
    scanned: TaskList | None


@dataclass(frozen=True)
class Watched:
    """A source, and the events that it has told."""

    source: Source
    complete: Callable[[OomKill], Completed] | None = None
    """Completes each kill at once."""
    events: list[CapturedEvent] = field(default_factory=list)
    seen: list[Snapshot] = field(default_factory=list)
    scanned: list[TaskList | None] = field(default_factory=list)

    def drain(self) -> int:
        """Take what waits now, and return how many that were."""
        return self.source.drain(self._take)

    def _take(self, event: CapturedEvent) -> None:
        if self.complete and isinstance(event, OomKill):
            event, snapshot, scanned = self.complete(event)
            self.seen.append(snapshot)
            self.scanned.append(scanned)
        self.events.append(event)

    def ended(self) -> int:
        """How many victims have ended by what it told."""
        return sum(isinstance(event, VictimExit) for event in self.events)


@contextmanager
def drained(watched: Sequence[Watched]) -> Iterator[None]:
    """Drain all of them meanwhile, as the agent does: what they look up in /proc is soon gone."""
    by_source = {each.source: each for each in watched}
    over = threading.Event()

    def follow() -> None:
        while not over.is_set():
            ready, _, _ = select.select(by_source, [], [], _LOOK_S)
            for source in ready:
                by_source[source].drain()

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        try:
            yield
        finally:
            over.set()
            following.result()


def finish(watched: Sequence[Watched], ends: int) -> None:
    """Drain until the first has told of that many ends, or not in time, and none has any more."""
    deadline = time.monotonic() + _ENDS_S
    while True:
        taken = sum(each.drain() for each in watched)
        if not taken and (watched[0].ended() >= ends or time.monotonic() > deadline):
            return
        select.select([each.source for each in watched], [], [], _LOOK_S)
