"""Stored events as entries of the outbox: enriched, then encoded as OTLP."""

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
from otel_oom.otlp.encode import encode_log, encode_span, kill_counts
from otel_oom.snapshot import process_state
from otel_oom.store import OutboxEntry, PendingEvent

_MAX_PENDING: Final = 64
"""A kill with a report of the kernel takes some 50 KB."""


class EventEncoder:
    """Encodes the rows of the event log.

    A kill's log event is encoded at once and its span after the victim's exit. The kill is enriched
    for the log event, and kept in memory for the span; after a restart, or with more victims alive
    than are kept, it is enriched again.
    """

    def __init__(self, host: Host, containers: ContainerService, boot_id: str) -> None:
        """Encode events with ``host`` as their host; ``boot_id`` is that of the running kernel."""
        self._host = host
        self._containers = containers
        self._boot_id = boot_id
        self._pending: dict[int, EnrichedKill] = {}
        """Kills whose span is not encoded yet, by row id, oldest first."""

    def encode(self, row: PendingEvent) -> OutboxEntry:
        """Encode what can be sent of ``row``: its log event, its span, or both."""
        enriched = self._enrich(row)
        # No daemon logs the exit of a victim.
        ended = row.exit is not None or row.exit_overdue or isinstance(row.event, UserspaceKill)
        if isinstance(enriched, EnrichedKill) and not ended and not row.span_queued:
            self._keep(row.id, enriched)
        return OutboxEntry(
            event_id=row.id,
            uid=row.event.uid,
            log=None if row.log_queued else encode_log(enriched),
            span=encode_span(enriched) if ended and not row.span_queued else None,
            counts={} if row.log_queued else kill_counts(enriched),
        )

    def _enrich(self, row: PendingEvent) -> EnrichedEvent:
        outcome = self._outcome(row)
        kept = self._pending.pop(row.id, None)
        if kept is not None:
            return replace(kept, victim_outcome=outcome)
        witness = row.snapshot
        if isinstance(row.event, OomEvent):
            containers = self._containers.resolve_deferred(row.event, witness.containers)
            witness = replace(witness, containers=containers)
        return enrich_event(row.event, witness, outcome, row.stored_unix_ns, self._host)

    def _keep(self, row_id: int, enriched: EnrichedKill) -> None:
        self._pending[row_id] = enriched
        if len(self._pending) > _MAX_PENDING:
            del self._pending[next(iter(self._pending))]

    def _outcome(self, row: PendingEvent) -> VictimOutcome:
        event, state = row.event, None
        if row.exit_overdue and row.exit is None and event.boot_id == self._boot_id:
            state = process_state(event) if isinstance(event, OomKill) else None
        alive = StillAlive(clock.boottime_ns(), state) if state else None
        return VictimOutcome(row.exit, row.reaper_steps, alive)
