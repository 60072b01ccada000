"""The span of a kill by the kernel, with its stages as span events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.events import ReaperStep
from otel_oom.otlp import semconv
from otel_oom.otlp.entity_attributes import drop_none
from otel_oom.otlp.growth import approach_events
from otel_oom.otlp.log_record import SCOPE, sdk_resource, span_context
from otel_oom.otlp.semconv import Attributes
from otel_oom.otlp.victim_end import end_attributes, find_end

_MARK_PREFIXES: Final = ("oom.victim.", "oom.trigger.", "process.pid")
_NOT_OF_MARK: Final = (
    semconv.VICTIM_MEMCG_STAT,
    semconv.VICTIM_MEMCG_EVENTS,
    semconv.VICTIM_MEMCG_PRESSURE,
    semconv.VICTIM_RUNTIME_SETTINGS,
    "oom.victim.mappings.",
)


def kill_span(
    enriched: EnrichedKill,
    attributes: Attributes,
    sentence: str,
    resource: Mapping[str, AttributeValue],
) -> ReadableSpan:
    """Build the span of a kill, from the approach to the limit or the mark, to the exit.

    It starts at its first event, because viewers of traces draw events within their span. It ends
    when the victim was last found alive, if it has not exited. Without both it ends at the mark.
    What is known of the end is added to ``attributes``.
    """
    kill = enriched.event
    events = [
        *approach_events(enriched),
        Event(semconv.EVENT_VICTIM_MARKED, _mark_attributes(attributes), kill.time_unix_ns),
        *(
            Event(semconv.EVENT_REAPER, _reaper_attributes(step), kill.to_unix_ns(step.boottime_ns))
            for step in enriched.victim_outcome.reaper
        ),
    ]
    end = find_end(enriched)
    if end:
        events.append(Event(end.name, end.attributes, end.unix_ns))
    attributes = attributes | drop_none(end_attributes(enriched, end))
    return ReadableSpan(
        name=semconv.SPAN_KILL,
        context=span_context(kill.trace_id, kill.span_id),
        parent=span_context(kill.trace_id, kill.parent_span_id) if kill.parent_span_id else None,
        kind=SpanKind.INTERNAL,
        resource=sdk_resource(resource),
        attributes=attributes,
        events=events,
        status=Status(StatusCode.ERROR, sentence),
        start_time=events[0].timestamp,
        end_time=end.unix_ns if end else kill.time_unix_ns,
        instrumentation_scope=SCOPE,
    )


def _mark_attributes(attributes: Attributes) -> Attributes:
    """Return the victim and the trigger at the mark, for a reader of the span alone."""
    return {
        name: value
        for name, value in attributes.items()
        if name.startswith(_MARK_PREFIXES) and not name.startswith(_NOT_OF_MARK)
    }


def _reaper_attributes(step: ReaperStep) -> Attributes:
    resident: Attributes = {} if step.resident is None else {semconv.REAPER_RESIDENT: step.resident}
    return {semconv.REAPER_STAGE: step.stage, **resident}
