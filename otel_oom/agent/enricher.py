"""Enrichment of stored events, once for all that is made of each."""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.agent.repeat_counter import RepeatCounter
from otel_oom.config.otlp import SIGNALS
from otel_oom.enrich.event import enrich_event
from otel_oom.enrich.host import Host
from otel_oom.enrich.types import (
    EnrichedEvent,
    EnrichedKill,
    EnrichedUserspaceKill,
    StillAlive,
    VictimOutcome,
)
from otel_oom.linux import clock
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import NS_PER_S
from otel_oom.snapshot import process_state
from otel_oom.store import PendingEvent, Store
from otel_oom.store.types import Repeat

EXIT_WAIT_S: Final = 10.0
"""How long a span waits for its victim to exit."""
_DUE_S: Final = 0.02
"""A span is due this much later: the clocks of two threads differ by less."""
MAX_KEPT: Final = 16
"""Kills that wait in memory for their span: some 40 KB each, with a report of the kernel."""


class DueEvent(Struct, frozen=True):
    """An enriched event, and the signals of it that are due: its log, its span or both."""

    row: PendingEvent
    enriched: EnrichedEvent
    signals: frozenset[str]
    repeat: Repeat | None = None
    excluder: str | None = None
    """The variable whose rules exclude it."""

    @property
    def is_complete(self) -> bool:
        """Return whether nothing more of it will be due."""
        return self.row.span_queued or "traces" in self.signals


class EventEnricher:
    """An enricher of stored events.

    A kill's log event is due at once; its span, and the log event of the end, after the victim's
    exit. The kill is decoded and enriched for the log event, and kept in memory for the span. After
    a restart, or with more victims alive than are kept, that is done again.
    """

    def __init__(
        self,
        host: Host,
        containers: ContainerService,
        boot_id: str,
        repeats: RepeatCounter | None = None,
    ) -> None:
        """Enrich events of ``host``; ``boot_id`` is that of the running kernel.

        Without ``repeats``, kills are not counted.
        """
        self._host = host
        self._repeats = repeats
        self._containers = containers
        self._boot_id = boot_id
        self._kept: dict[str, EnrichedKill] = {}
        """Kills without a span, by uid, oldest first."""
        self.decoded: dict[str, PendingEvent] = {}
        """The same kills as stored."""

    def enrich(self, row: PendingEvent, *, plain: bool = False) -> DueEvent:
        """Enrich the event of ``row``; ``plain``: with no more than the kernel's own data."""
        uid, repeat = row.event.uid, None
        enriched = self._enrich_plainly(row) if plain else self._enrich(uid, row)
        if isinstance(enriched, EnrichedKill | EnrichedUserspaceKill) and enriched.repeat is None:
            enriched, repeat = self._count(row, enriched)
        # No daemon logs the exit of a victim.
        ended = row.exit is not None or row.exit_overdue or isinstance(row.event, UserspaceKill)
        if isinstance(enriched, EnrichedKill) and not ended and not row.span_queued:
            self._keep(uid, row, enriched)
        is_due = {"logs": not row.log_queued, "traces": ended and not row.span_queued}
        due = frozenset(signal for signal in SIGNALS if is_due[signal])
        return DueEvent(row, enriched, due, repeat)

    def _count(
        self, row: PendingEvent, enriched: EnrichedKill | EnrichedUserspaceKill
    ) -> tuple[EnrichedKill | EnrichedUserspaceKill, Repeat | None]:
        """Return the kill with its number among those of its victim, and what the store needs."""
        if row.repeat or self._repeats is None:
            return replace(enriched, repeat=row.repeat), None
        repeat = self._repeats.count(row, enriched)
        return replace(enriched, repeat=repeat.place if repeat else None), repeat

    def forget(self, uid: str) -> None:
        """Release what is in memory of an event: nothing more of it is due."""
        self._kept.pop(uid, None)
        self.decoded.pop(uid, None)

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
        if len(self._kept) > MAX_KEPT:
            oldest = next(iter(self._kept))
            del self._kept[oldest], self.decoded[oldest]

    def _outcome(self, row: PendingEvent) -> VictimOutcome:
        event, state = row.event, None
        if row.exit_overdue and row.exit is None and event.boot_id == self._boot_id:
            state = process_state(event) if isinstance(event, OomKill) else None
        alive = StillAlive(clock.boottime_ns(), state) if state else None
        return VictimOutcome(row.exit, row.reaper_steps, alive)


def until_due_s(store: Store, boot_id: str) -> float:
    """Return the seconds until a span of ``store`` stops waiting for its victim's exit."""
    oldest_ns = store.oldest_pending_boottime_ns(boot_id)
    if oldest_ns is None:
        return math.inf
    return max(0.0, (oldest_ns - clock.boottime_ns()) / NS_PER_S + EXIT_WAIT_S) + _DUE_S
