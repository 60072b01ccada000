"""The span of a kill by the kernel, with its stages as span events."""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.events import ReaperStep, VictimExit
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.otlp.attributes import kill_attributes
from otel_oom.otlp.body import kill_body
from otel_oom.otlp.log_record import SCOPE, sdk_resource, span_context
from otel_oom.otlp.semconv import Attributes

_SIGNAL_BITS: Final = 0x7F

_MARK_PREFIXES: Final = ("oom.victim.", "oom.trigger.", "process.pid")
_NOT_OF_MARK: Final = (
    semconv.VICTIM_MEMCG_STAT,
    semconv.VICTIM_MEMCG_EVENTS,
    semconv.VICTIM_MEMCG_PRESSURE,
)


def kill_span(enriched: EnrichedKill) -> ReadableSpan:
    """Build the span of a kill, from the victim's mark to its exit.

    It ends when the victim was last found alive, if it has not exited. It ends at its start if
    neither is known.
    """
    kill, outcome = enriched.event, enriched.victim_outcome
    attributes = kill_attributes(enriched)
    events = [
        Event(semconv.EVENT_VICTIM_MARKED, _mark_attributes(attributes), kill.time_unix_ns),
        *(
            Event(semconv.EVENT_REAPER, _reaper_attributes(step), kill.to_unix_ns(step.boottime_ns))
            for step in outcome.reaper
        ),
    ]
    end_ns, exited = kill.time_unix_ns, None
    if outcome.exit:
        # The kernel sends the signal before the mark: on another CPU the victim may exit first.
        end_ns, exited = max(kill.time_unix_ns, kill.to_unix_ns(outcome.exit.boottime_ns)), True
        exit_attributes = _exit_attributes(kill.boottime_ns, outcome.exit)
        events.append(Event(semconv.EVENT_VICTIM_EXITED, exit_attributes, end_ns))
    elif outcome.alive:
        end_ns, exited = kill.to_unix_ns(outcome.alive.boottime_ns), False
        state = {semconv.VICTIM_STATE: outcome.alive.state}
        events.append(Event(semconv.EVENT_VICTIM_ALIVE, state, end_ns))
    if exited is not None:
        attributes[semconv.VICTIM_EXITED] = exited
    if outcome.reaped_bytes is not None:
        attributes[semconv.VICTIM_MEMORY_REAPED] = outcome.reaped_bytes
    return ReadableSpan(
        name=semconv.SPAN_KILL,
        context=span_context(kill.trace_id, kill.span_id),
        parent=span_context(kill.trace_id, kill.parent_span_id) if kill.parent_span_id else None,
        kind=SpanKind.INTERNAL,
        resource=sdk_resource(enriched.resource),
        attributes=attributes,
        events=events,
        status=Status(StatusCode.ERROR, kill_body(enriched)),
        start_time=kill.time_unix_ns,
        end_time=end_ns,
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


def _exit_attributes(mark_boottime_ns: int, exit_: VictimExit) -> Attributes:
    attributes: Attributes = {
        semconv.VICTIM_EXIT_DELAY: max(0, exit_.boottime_ns - mark_boottime_ns) / NS_PER_S
    }
    if exit_.exit_code is not None:
        attributes[semconv.VICTIM_EXIT_SIGNAL] = exit_.exit_code & _SIGNAL_BITS
    return attributes
