"""Store the event of a cgroup near its limit; without space it is dropped."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

from otel_oom.agent.stats import Stats
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store, StoreError

_LOG = logging.getLogger(__name__)


class NearLimitRecorder:
    """The way of these events to the disk, in the thread that samples."""

    def __init__(self, store: Store, stats: Stats, on_event: Callable[[], None]) -> None:
        """Record in ``store``, count in ``stats``, and call ``on_event`` after each."""
        self._store, self._stats, self._on_event = store, stats, on_event

    def record(self, event: NearLimit, snapshot: Snapshot) -> None:
        """Store an event; one that the store can't take is dropped and logged."""
        try:
            is_new = self._store.insert(event, snapshot)
        except (sqlite3.Error, StoreError, MemoryError) as error:
            _LOG.warning("Cgroup %s near its limit: event dropped: %s", event.memcg.path, error)
            return
        if is_new:
            self._stats.on_event_of_thread(event)
            self._on_event()
            _LOG.warning(
                "Memory is near its limit: cgroup=%s used=%d limit=%s",
                event.memcg.path,
                event.working_set,
                event.memcg_usage.limit,
            )
