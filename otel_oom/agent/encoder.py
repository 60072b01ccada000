"""Encoding of stored events as entries of the outbox."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from otel_oom.enrich.event import enrich_event
from otel_oom.enrich.host import Host
from otel_oom.enrich.types import EnrichedEvent, EnrichedKill, StillAlive, VictimOutcome
from otel_oom.linux import clock
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.otlp.encode import encode_log, encode_span, kill_counts
from otel_oom.snapshot import process_state
from otel_oom.store import OutboxEntry, PendingEvent

_MAX_KEPT: Final = 32
"""Some 40 KB each, with a report of the kernel."""


class EventEncoder:
    """An encoder of stored events.

    A kill's log event is encoded at once and its span after the victim's exit. The kill is decoded
    and enriched for the log event, and kept in memory for the span. After a restart, or with more
    victims alive than are kept, that is done again.
    """

    def __init__(self, host: Host, containers: ContainerService, boot_id: str) -> None:
        """Encode events of ``host``; ``boot_id`` is that of the running kernel."""
        self._host = host
        self._containers = containers
        self._boot_id = boot_id
        self._kept: dict[str, EnrichedKill] = {}
        """Kills without a span, by uid, oldest first."""
        self.decoded: dict[str, PendingEvent] = {}
        """The same kills as stored."""

    def encode(self, row: PendingEvent, *, plain: bool = False) -> OutboxEntry:
        """Encode the log event or the span of ``row``, or both, if they are due.

        ``plain``: with no more than the kernel's own data.
        """
        uid = row.event.uid
        enriched = self._enrich_plainly(row) if plain else self._enrich(uid, row)
        # No daemon logs the exit of a victim.
        ended = row.exit is not None or row.exit_overdue or isinstance(row.event, UserspaceKill)
        if isinstance(enriched, EnrichedKill) and not ended and not row.span_queued:
            self._keep(uid, row, enriched)
        return OutboxEntry(
            event_id=row.id,
            uid=uid,
            log=None if row.log_queued else encode_log(enriched),
            span=encode_span(enriched) if ended and not row.span_queued else None,
            counts={} if row.log_queued else kill_counts(enriched),
        )

    def _enrich(self, uid: str, row: PendingEvent) -> EnrichedEvent:
        outcome, kept = self._outcome(row), self._kept.pop(uid, None)
        if kept is not None:
            del self.decoded[uid]
            # The store may have dropped the report meanwhile, and wants the log again.
            if row.log_queued:
                return replace(kept, victim_outcome=outcome)
        snapshot = row.snapshot
        if isinstance(row.event, OomEvent):
            containers = self._containers.resolve_deferred(row.event, snapshot.containers)
            snapshot = replace(snapshot, containers=containers)
        return enrich_event(row.event, snapshot, outcome, row.stored_unix_ns, self._host)

    def _enrich_plainly(self, row: PendingEvent) -> EnrichedEvent:
        """Leave out all that a tenant shapes, but for names in the kernel's record."""
        event = row.event
        if isinstance(event, OomEvent):
            event = replace(event, user_stack=())
        if isinstance(event, OomKill):
            event = replace(event, victim=replace(event.victim, command=None))
        snapshot = Snapshot(process_found=False)
        return enrich_event(event, snapshot, self._outcome(row), row.stored_unix_ns, self._host)

    def _keep(self, uid: str, row: PendingEvent, enriched: EnrichedKill) -> None:
        self._kept[uid], self.decoded[uid] = enriched, row
        if len(self._kept) > _MAX_KEPT:
            oldest = next(iter(self._kept))
            del self._kept[oldest], self.decoded[oldest]

    def _outcome(self, row: PendingEvent) -> VictimOutcome:
        event, state = row.event, None
        if row.exit_overdue and row.exit is None and event.boot_id == self._boot_id:
            state = process_state(event) if isinstance(event, OomKill) else None
        alive = StillAlive(clock.boottime_ns(), state) if state else None
        return VictimOutcome(row.exit, row.reaper_steps, alive)
