"""Counting of repeated kills, across restarts of the victim and of this agent."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.repeat_key import find_repeat_key
from otel_oom.enrich.types import EnrichedKill, EnrichedUserspaceKill
from otel_oom.model.events import OomKill
from otel_oom.store import PendingEvent, Store
from otel_oom.store.repeats import QUIET_NS
from otel_oom.store.types import Repeat

_MAX_KEPT: Final = 256
"""More than the events of one transaction."""
_MAX_INCIDENTS: Final = 8
"""Members of groups that are killed at the same time come in turns."""


class RepeatCounter:
    """A counter of the kills of each victim, as the store has them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_uid: dict[str, Repeat] = {}
        """By event: one that is encoded again, as its transaction failed, counts once."""
        self._by_key: dict[str, Repeat] = {}
        """The last kill of each victim, which the store may not have yet."""

    def count(
        self, row: PendingEvent, enriched: EnrichedKill | EnrichedUserspaceKill
    ) -> Repeat | None:
        """Return the kill as the last one of its victim; ``None`` for one that was skipped."""
        if enriched.outcome == "skipped":
            return None
        uid = row.event.uid
        if uid not in self._by_uid:
            key = find_repeat_key(enriched)
            last = self._by_key.get(key) or self._store.find_repeat(key)
            event = enriched.event
            incident = event.incident if isinstance(event, OomKill) else None
            repeat = follow(last, key, event.time_unix_ns, incident or uid)
            self._by_uid[uid] = repeat
            if repeat.key:
                self._by_key.pop(key, None)
                self._by_key[key] = repeat
            for kept in (self._by_uid, self._by_key):
                if len(kept) > _MAX_KEPT:
                    del kept[next(iter(kept))]
        return self._by_uid[uid]


def follow(last: Repeat | None, key: str, unix_ns: int, incident: str) -> Repeat:
    """Return the kill of ``incident`` at ``unix_ns``, after the ``last`` one of its victim.

    Kills of one incident are one. One that was read late, from a log, counts as the others, if it
    is not of another time.
    """
    if last is None or unix_ns - last.last_unix_ns > QUIET_NS:
        return Repeat(key, 1, unix_ns, unix_ns, (incident,))
    if last.first_unix_ns - unix_ns > QUIET_NS:
        return Repeat("", 1, unix_ns, unix_ns, (incident,))
    is_new = incident not in last.incidents
    return Repeat(
        key,
        last.count + is_new,
        min(last.first_unix_ns, unix_ns),
        max(last.last_unix_ns, unix_ns),
        (*last.incidents, incident)[-_MAX_INCIDENTS:] if is_new else last.incidents,
    )
