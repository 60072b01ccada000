"""Sources that are drained as their events come, and the events of each."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from msgspec.structs import replace

from otel_oom.capture.source import AnnotateKill, Source
from otel_oom.model.events import CapturedEvent, OomKill, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import TaskList
from otel_oom.snapshot import ProcessScanner, add_limit_cgroup, take_snapshot
from otel_oom.snapshot.host_stats import read_vm_settings
from tests.testlib.kernel.memcg import CGROUP_MOUNT
from tests.testlib.speed import slowness
from tests.testlib.wait import wait_until

_POLL_S: Final = 0.1
_ENDS_S: Final = 30.0
_COMPLETED_S: Final = 60.0

EventT = TypeVar("EventT", bound=CapturedEvent)


class CompletedKill(NamedTuple):
    """A kill with its report, and the state that was read at once."""

    kill: OomKill
    snapshot: Snapshot
    scanned: TaskList | None


_SCANNER: Final = ProcessScanner(CGROUP_MOUNT)


def complete_kill(annotate: AnnotateKill, kill: OomKill) -> CompletedKill:
    """Read what the agent reads of a kill."""
    snapshot = take_snapshot(kill, CGROUP_MOUNT)
    kill = annotate(kill)
    snapshot = replace(add_limit_cgroup(kill, snapshot, CGROUP_MOUNT), vm_sysctl=read_vm_settings())
    swapped = bool(snapshot.host and snapshot.host.swap_used)
    return CompletedKill(kill, snapshot, _SCANNER.scan(kill, swapped=swapped))


@dataclass(frozen=True)
class SourceRecorder:
    """A source, and the events that it has captured."""

    source: Source
    complete: Callable[[OomKill], CompletedKill] | None = None
    """Completes each kill at once."""
    events: list[CapturedEvent] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    scanned: list[TaskList | None] = field(default_factory=list)
    completed: set[int] = field(default_factory=set)
    """The pids whose kills have their snapshot."""

    def drain(self) -> int:
        """Record the waiting events, and return their number."""
        return self.source.drain(self._record)

    def _record(self, event: CapturedEvent) -> None:
        if self.complete and isinstance(event, OomKill):
            event, snapshot, scanned = self.complete(event)
            self.snapshots.append(snapshot)
            self.scanned.append(scanned)
            self.completed.add(event.victim.tgid or 0)
        self.events.append(event)

    def of_type(self, event_type: type[EventT]) -> list[EventT]:
        """Return the events of one type."""
        return [event for event in self.events if isinstance(event, event_type)]


_running: list[SourceRecorder] = []
"""Those that are drained in the background."""


def wait_until_completed(pids: Iterable[int]) -> None:
    """Wait until each of these kills has its snapshot, by every running recorder that takes one.

    Whatever a scenario puts back then can no more be read.

    Raises:
        TimeoutError: one has none in time.
    """
    wanted = set(pids)
    for recorder in _running:
        if recorder.complete:
            wait_until(
                lambda recorder=recorder: wanted <= recorder.completed,  # type: ignore[misc]
                f"the snapshots of {wanted}",
                limit=_COMPLETED_S * slowness(),
            )


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
        _running.extend(recorders)
        try:
            yield
        finally:
            _running.clear()
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
