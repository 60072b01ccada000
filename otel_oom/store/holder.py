"""The holder of an event, by the cgroup of its victim, and its share of a table."""

from __future__ import annotations

import sqlite3
from typing import Final

from otel_oom.linux.cgroup_holder import UNKNOWN, find_holder
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import NoVictim, Panic, StoredEvent
from otel_oom.model.loss import DroppedEvents
from otel_oom.model.near_limit import NearLimit

DROPPED: Final = DroppedEvents.kind
"""The holder of the agent's own events about drops."""
NEAR_LIMIT: Final = NearLimit.kind
"""The holder of all events of cgroups near their limit, which are dropped before all others."""


def event_holder(event: StoredEvent) -> str:
    """Return the holder of ``event``; some kinds are a holder of their own."""
    if not isinstance(event, OomEvent) or isinstance(event, NearLimit | Panic):
        return event.kind
    memcg = event.trigger_memcg if isinstance(event, NoVictim) else event.memcg
    # As in the JSON, a lone surrogate must not cost the event: SQLite stores none.
    return find_holder(memcg.path.encode("utf-8", "replace").decode()) if memcg else UNKNOWN


def has_share(db: sqlite3.Connection, table: str, holder: str, limit: int) -> bool:
    """Return true if a holder may have one more row of a table of at most ``limit`` rows.

    It may have as many as are free, so one alone gets half of the limit.
    """
    used, own = db.execute(
        f"SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM {table} WHERE holder = ?)",  # noqa: S608  names of our own
        (holder,),
    ).fetchone()
    return bool(own < limit - used)
