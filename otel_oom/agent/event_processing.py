"""What the user's filters and processors make of an event, before it is encoded."""

from __future__ import annotations

from collections import Counter

from otel_oom.agent.processors import ProcessorChain
from otel_oom.config.filters import FilterConfig
from otel_oom.enrich.event_filter import EventFilter
from otel_oom.enrich.types import EnrichedEvent
from otel_oom.otlp.attribute_drops import AttributeDrops
from otel_oom.otlp.event import Event


class EventProcessing:
    """Rules of exclusion, then processors, then attributes that are dropped."""

    def __init__(self, config: FilterConfig, errors: Counter[tuple[str, str]]) -> None:
        """Count failures of processors in ``errors``, by name and type of error."""
        self._filter = EventFilter(config)
        self._processors = ProcessorChain(config.processors, errors)
        self._drops = AttributeDrops(config.dropped_attributes)
        self.drop_from_spans = self._drops.drop_from_spans

    def find_exclusion(self, enriched: EnrichedEvent) -> str | None:
        """Return the variable whose rules exclude an event; ``None`` if it is sent."""
        return self._filter.find_exclusion(enriched)

    def process(self, event: Event, *, plain: bool = False) -> Event | str:
        """Return the processed event, or the processor that drops it.

        ``plain``: without processors, as the agent may have ended in one.
        """
        processed = event if plain else self._processors.process(event)
        if isinstance(processed, str):
            return processed
        return self._drops.drop_from_event(processed)
