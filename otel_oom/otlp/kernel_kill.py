"""Enriched events of the kernel as log records and spans of the OpenTelemetry SDK."""

from __future__ import annotations

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
)

from otel_oom.enrich import EnrichedKill, EnrichedMissedKills, EnrichedNoVictim, EnrichedPanic
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.otlp.attributes import (
    kill_attributes,
    kill_label,
    missed_attributes,
    missed_label,
    no_victim_attributes,
    original,
    panic_attributes,
)
from otel_oom.otlp.body import missed_sentence, no_victim_sentence, panic_sentence, sentence
from otel_oom.otlp.log_record import SCOPE, context_of, log_event, resource_of
from otel_oom.otlp.types import Attributes

__all__ = [
    "kill_label",
    "log_record",
    "missed_label",
    "missed_record",
    "no_victim_record",
    "panic_record",
    "span",
]

_SIGNAL_BITS = 0x7F


def log_record(enriched: EnrichedKill) -> ReadableLogRecord:
    """The kill as a log event, by the conventions for events.

    EventName ``oom.kill``, Timestamp the kernel's, severity FATAL without a text, flat
    attributes, a body to display; the trace and span id are those of :func:`span`.
    """
    kill = enriched.kill
    return log_event(
        kill,
        enriched.observed_unix_ns,
        name=semconv.EVENT_KILL,
        severity=SeverityNumber.FATAL if enriched.outcome == "killed" else SeverityNumber.WARN,
        body=sentence(enriched),
        attributes=kill_attributes(enriched) | original(kill),
        resource=enriched.resource,
        span=_span_context(enriched),
    )


def span(enriched: EnrichedKill) -> ReadableSpan:
    """The kill as a span, from the victim's mark to its exit; its events are the stages.

    A victim that has not died when it was last looked at ends the span there. When neither its
    exit nor its life was seen, the span ends where it begins.
    """
    kill, end = enriched.kill, enriched.end
    attributes = kill_attributes(enriched)
    stages = [
        Event(semconv.EVENT_VICTIM_MARKED, _mark_attributes(attributes), kill.time_unix_ns),
        *_reaper_events(enriched),
    ]
    end_ns, exited = kill.time_unix_ns, None
    if end.exit:
        # The signal comes before the mark: on another CPU the victim can be gone by then.
        end_ns, exited = max(kill.time_unix_ns, kill.to_unix_ns(end.exit.boottime_ns)), True
        stages.append(Event(semconv.EVENT_VICTIM_EXITED, _exit_attributes(enriched), end_ns))
    elif end.alive:
        end_ns, exited = kill.to_unix_ns(end.alive.boottime_ns), False
        state = {semconv.VICTIM_STATE: end.alive.state}
        stages.append(Event(semconv.EVENT_VICTIM_ALIVE, state, end_ns))
    if exited is not None:
        attributes[semconv.VICTIM_EXITED] = exited
    if end.reaped is not None:
        attributes[semconv.MEMORY_REAPED] = end.reaped
    return ReadableSpan(
        name=semconv.SPAN_KILL,
        context=_span_context(enriched),
        parent=context_of(kill.trace_id, kill.parent_span_id) if kill.parent_span_id else None,
        kind=SpanKind.INTERNAL,
        resource=resource_of(enriched.resource),
        attributes=attributes,
        events=stages,
        status=Status(StatusCode.ERROR, sentence(enriched)),
        start_time=kill.time_unix_ns,
        end_time=end_ns,
        instrumentation_scope=SCOPE,
    )


def _reaper_events(enriched: EnrichedKill) -> list[Event]:
    """What the kernel's reaper did with a victim that did not die by itself."""
    return [
        Event(
            semconv.EVENT_REAPER,
            {semconv.REAPER_STAGE: step.stage}
            | ({} if step.resident is None else {semconv.REAPER_RESIDENT: step.resident}),
            enriched.kill.to_unix_ns(step.boottime_ns),
        )
        for step in enriched.end.reaper
    ]


def _exit_attributes(enriched: EnrichedKill) -> Attributes:
    kill, exit_ = enriched.kill, enriched.end.exit
    if exit_ is None:
        return {}
    after = max(0, exit_.boottime_ns - kill.boottime_ns) / NS_PER_S
    signal = (
        {}
        if exit_.exit_code is None
        else {semconv.VICTIM_EXIT_SIGNAL: exit_.exit_code & _SIGNAL_BITS}
    )
    return {semconv.VICTIM_EXIT_DELAY: after, **signal}


def no_victim_record(enriched: EnrichedNoVictim) -> ReadableLogRecord:
    """A want of memory without anyone to kill, as a log event ``oom.no_victim``."""
    event = enriched.event
    return log_event(
        event,
        enriched.observed_unix_ns,
        name=semconv.EVENT_NO_VICTIM,
        severity=SeverityNumber.ERROR,
        body=no_victim_sentence(enriched),
        attributes=no_victim_attributes(enriched) | original(event),
        resource=enriched.resource,
    )


def panic_record(enriched: EnrichedPanic) -> ReadableLogRecord:
    """A panic of an earlier boot for want of memory, as a log event ``oom.panic``."""
    event = enriched.event
    return log_event(
        event,
        enriched.observed_unix_ns,
        name=semconv.EVENT_PANIC,
        severity=SeverityNumber.FATAL,
        body=panic_sentence(enriched),
        attributes=panic_attributes(enriched) | original(event),
        resource=enriched.resource,
    )


def missed_record(enriched: EnrichedMissedKills) -> ReadableLogRecord:
    """Build the log event ``oom.missed``, of kills that no event reports."""
    event = enriched.event
    return log_event(
        event,
        enriched.observed_unix_ns,
        name=semconv.EVENT_MISSED,
        severity=SeverityNumber.ERROR,
        body=missed_sentence(event),
        attributes=missed_attributes(event),
        resource=enriched.resource,
    )


def _span_context(enriched: EnrichedKill) -> SpanContext:
    return context_of(enriched.kill.trace_id, enriched.kill.span_id)


def _mark_attributes(attributes: Attributes) -> Attributes:
    """What the mark found: the victim and the trigger, as a reader of the span alone needs it."""
    prefixes = ("oom.victim.", "oom.trigger.", "process.pid")
    around = (semconv.MEMCG_STAT, semconv.MEMCG_EVENTS, semconv.MEMCG_PRESSURE)
    return {
        name: value
        for name, value in attributes.items()
        if name.startswith(prefixes) and not name.startswith(around)
    }
