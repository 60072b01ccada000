"""Enriched kills as OTLP: a pure translation, by the official encoders."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from otel_oom import __version__
from otel_oom.enrich import EnrichedKill
from otel_oom.otlp import names
from otel_oom.otlp.attributes import kill_attributes
from otel_oom.otlp.sentence import sentence

__all__ = ["log_bytes", "log_record", "span", "span_bytes"]

_SCOPE = InstrumentationScope(names.SCOPE, __version__, names.SCHEMA_URL)
_SIGNAL_BITS = 0x7F


def log_record(enriched: EnrichedKill) -> ReadableLogRecord:
    """The kill as a log event, by the conventions for events.

    EventName ``oom.kill``, Timestamp the kernel's, severity FATAL without a text, flat
    attributes, a body to display; the trace and span id are those of :func:`span`.
    """
    kill = enriched.kill
    return ReadableLogRecord(
        log_record=LogRecord(
            timestamp=kill.time_unix_ns,
            observed_timestamp=enriched.observed_unix_ns,
            context=set_span_in_context(NonRecordingSpan(_span_context(enriched))),
            severity_number=(
                SeverityNumber.WARN if enriched.decision.already_exiting else SeverityNumber.FATAL
            ),
            body=sentence(enriched),
            attributes=kill_attributes(enriched),
            event_name=names.EVENT_KILL,
        ),
        resource=_resource(enriched.resource),
        instrumentation_scope=_SCOPE,
    )


def span(enriched: EnrichedKill) -> ReadableSpan:
    """The kill as a span, from the victim's mark to its exit; its events are the stages.

    Without an exit the span ends where it begins and says that no exit was seen.
    """
    kill, exit_ = enriched.kill, enriched.exit
    attributes = kill_attributes(enriched)
    end_ns = kill.unix_ns_of(exit_.boottime_ns) if exit_ else kill.time_unix_ns
    stages = [Event(names.EVENT_VICTIM_MARKED, _mark_attributes(attributes), kill.time_unix_ns)]
    if exit_:
        signal = exit_.exit_code & _SIGNAL_BITS
        stages.append(Event(names.EVENT_VICTIM_EXITED, {names.VICTIM_EXIT_SIGNAL: signal}, end_ns))
    return ReadableSpan(
        name=names.SPAN_KILL,
        context=_span_context(enriched),
        parent=_context(kill.trace_id, kill.parent_span_id) if kill.parent_span_id else None,
        kind=SpanKind.INTERNAL,
        resource=_resource(enriched.resource),
        attributes={**attributes, names.VICTIM_EXITED: exit_ is not None},
        events=stages,
        status=Status(StatusCode.ERROR, sentence(enriched)),
        start_time=kill.time_unix_ns,
        end_time=end_ns,
        instrumentation_scope=_SCOPE,
    )


def log_bytes(enriched: EnrichedKill) -> bytes:
    """An ``ExportLogsServiceRequest`` with the one log event of a kill.

    Requests are made of repeated fields alone, so joined they are one larger request.
    """
    return encode_logs([log_record(enriched)]).SerializeToString()


def span_bytes(enriched: EnrichedKill) -> bytes:
    """An ``ExportTraceServiceRequest`` with the one span of a kill; joins as logs do."""
    return encode_spans([span(enriched)]).SerializeToString()


def _span_context(enriched: EnrichedKill) -> SpanContext:
    return _context(enriched.kill.trace_id, enriched.kill.span_id)


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(
        trace_id=trace_id,
        span_id=span_id,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def _mark_attributes(attributes: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    """What the mark found: the victim and the trigger, as a reader of the span alone needs it."""
    prefixes = ("oom.victim.", "oom.trigger.", "process.pid")
    return {name: value for name, value in attributes.items() if name.startswith(prefixes)}


def _resource(attributes: Mapping[str, str]) -> Resource:
    # Never Resource.create(): that would merge the agent's own environment into the victim's.
    return Resource(dict(attributes), names.SCHEMA_URL)
