"""Encoding of enriched events as entries of the outbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from otel_oom.agent.enricher import DueEvent, EventEnricher
from otel_oom.config.limits import NO_LIMITS, TelemetryLimits
from otel_oom.config.metrics import DEFAULT_OWNER_NAMES
from otel_oom.config.otlp import SIGNALS
from otel_oom.otlp.encode import encode_event_log, encode_event_span
from otel_oom.otlp.event import Event, build_end_event, build_event
from otel_oom.otlp.kill_counts import count_kills, count_memory
from otel_oom.store import OutboxEntry, PendingEvent
from otel_oom.store.counters import EXCLUDED

if TYPE_CHECKING:  # most agents have no filter
    from otel_oom.agent.event_processing import EventProcessing


class EventEncoder:
    """An encoder of stored events."""

    def __init__(
        self,
        enricher: EventEnricher,
        signals: frozenset[str] = frozenset(SIGNALS),
        limits: TelemetryLimits = NO_LIMITS,
        processing: EventProcessing | None = None,
        owner_names: Sequence[str] = DEFAULT_OWNER_NAMES,
    ) -> None:
        """Encode what ``enricher`` enriches.

        Of a signal that is not in ``signals`` there is no message. ``limits`` are the user's;
        ``processing`` is that of the user's filters and processors, if there are any. Kills are
        counted by the attributes ``owner_names``.
        """
        self._enricher = enricher
        self._signals = signals
        self._limits = limits
        self._processing = processing
        self._owner_names = owner_names

    @property
    def decoded(self) -> Mapping[str, PendingEvent]:
        """Return the stored events that need not be decoded again, by uid."""
        return self._enricher.decoded

    def encode(self, row: PendingEvent, *, plain: bool = False) -> OutboxEntry:
        """Encode the log event or the span of ``row``, or both, if they are due.

        ``plain``: with no more than the kernel's own data.
        """
        due, processing = self._enricher.enrich(row, plain=plain), self._processing
        excluder = processing.find_exclusion(due.enriched) if processing else None
        event = excluder or self._process(build_event(due.enriched), plain=plain)
        if isinstance(event, str):
            return self._exclude(due, event)
        sent, drop = due.signals & self._signals, processing.drop_from_spans if processing else None
        # Not with the span alone: where traces are off, this is all there is about the end.
        has_end = "traces" in due.signals and "logs" in self._signals
        end = build_end_event(due.enriched) if has_end else None
        processed_end = self._process(end, plain=plain) if end else None
        return OutboxEntry(
            event_id=row.id,
            uid=row.event.uid,
            log=encode_event_log(event, self._limits) if "logs" in sent else None,
            span=encode_event_span(event, self._limits, drop) if "traces" in sent else None,
            counts=count_memory(due.enriched) if "logs" in due.signals else {},
            kills=(
                count_kills(due.enriched, event, self._owner_names)
                if "logs" in due.signals
                else None
            ),
            repeat=due.repeat,
            skipped=due.signals - self._signals,
            end_log=(
                encode_event_log(processed_end, self._limits)
                if isinstance(processed_end, Event)
                else None
            ),
        )

    def _process(self, event: Event, *, plain: bool) -> Event | str:
        return self._processing.process(event, plain=plain) if self._processing else event

    def _exclude(self, due: DueEvent, excluder: str) -> OutboxEntry:
        """Return the entry of an event that is not sent: what was not queued before never is."""
        row = due.row
        self._enricher.forget(row.event.uid)
        queued = {"logs": row.log_queued, "traces": row.span_queued}
        counts = {**count_memory(due.enriched), EXCLUDED + excluder: 1}
        return OutboxEntry(
            event_id=row.id,
            uid=row.event.uid,
            log=None,
            span=None,
            counts=counts if "logs" in due.signals else {},
            kills=count_kills(due.enriched) if "logs" in due.signals else None,
            repeat=due.repeat,
            excluded=frozenset(signal for signal in SIGNALS if not queued[signal]),
        )
