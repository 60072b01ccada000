"""The holder of an event: by the victim's cgroup, see :mod:`otel_oom.linux.cgroup_holder`."""

from __future__ import annotations

from typing import Final

from otel_oom.linux.cgroup_holder import UNKNOWN, find_holder
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import NoVictim, Panic, StoredEvent
from otel_oom.model.loss import DroppedEvents

DROPPED: Final = DroppedEvents.kind
"""The holder of the agent's own events about drops."""


def event_holder(event: StoredEvent) -> str:
    """Return the holder of ``event``; an event of the whole host counts to its own kind."""
    if not isinstance(event, OomEvent) or isinstance(event, Panic):
        return event.kind
    memcg = event.trigger_memcg if isinstance(event, NoVictim) else event.memcg
    # As in the JSON, a lone surrogate must not cost the event: SQLite stores none.
    return find_holder(memcg.path.encode("utf-8", "replace").decode()) if memcg else UNKNOWN
