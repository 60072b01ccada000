"""One kernel report and task list for the kills of a container within an interval."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import NS_PER_S
from otel_oom.store.holder import event_holder

_MAX_CONTAINERS: Final = 1024
"""Without its entry, a container has a report of its own again."""


class ReportInterval:
    """The last kill with a report of its own, of each container; used by one thread."""

    def __init__(self, interval_s: int) -> None:
        """Let a report stand for kills up to ``interval_s`` seconds later; 0 for none."""
        self._interval_ns = interval_s * NS_PER_S
        self._reported: dict[str, tuple[int, str]] = {}
        """Time and uid of a kill by container, the oldest first."""

    def refer(self, kill: OomKill, snapshot: Snapshot) -> OomKill:
        """Return a kill without report and tasks that refers to the kill which has them, if any."""
        boottime_ns, uid = self._reported.get(_container(kill, snapshot), (kill.boottime_ns, ""))
        if not uid or not 0 <= kill.boottime_ns - boottime_ns < self._interval_ns:
            return kill
        return replace(kill, original=None, tasks=None, report_uid=uid)

    def add(self, kill: OomKill, snapshot: Snapshot) -> None:
        """Remember a stored kill that has a report of its own."""
        container = _container(kill, snapshot)
        if not (self._interval_ns and container and (kill.original or kill.tasks)):
            return
        self._reported.pop(container, None)
        if len(self._reported) >= _MAX_CONTAINERS:
            del self._reported[next(iter(self._reported))]
        self._reported[container] = (kill.boottime_ns, kill.uid)


def _container(kill: OomKill, snapshot: Snapshot) -> str:
    """Return what identifies the container of a kill; outside of containers, the holder."""
    container = snapshot.containers.victim if snapshot.containers else None
    return container.id if container else event_holder(kill)
