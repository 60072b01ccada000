"""What all log events have in common, by OpenTelemetry's conventions for events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.util.types import AttributeValue

from otel_oom import __version__
from otel_oom.model.event_base import Event
from otel_oom.otlp import semconv
from otel_oom.otlp.attribute_limit import bounded
from otel_oom.otlp.types import Attributes

SCOPE: Final = InstrumentationScope(semconv.SCOPE, __version__, semconv.SCHEMA_URL)


def log_event(  # noqa: PLR0913  each is named at the call
    event: Event,
    observed_unix_ns: int,
    *,
    name: str,
    severity: SeverityNumber,
    body: str,
    attributes: Attributes,
    resource: Mapping[str, AttributeValue],
    span: SpanContext | None = None,
) -> ReadableLogRecord:
    """``event`` as a log record with an EventName, at the kernel's own time.

    Its severity has no text, its attributes are flat and no more than backends take, its body is
    there to be displayed. ``span`` is what it belongs to.
    """
    return ReadableLogRecord(
        log_record=LogRecord(
            timestamp=event.time_unix_ns,
            observed_timestamp=observed_unix_ns,
            context=set_span_in_context(NonRecordingSpan(span)) if span else None,
            severity_number=severity,
            body=body,
            attributes=bounded(attributes, beside=len(resource)),
            event_name=name,
        ),
        resource=resource_of(resource),
        instrumentation_scope=SCOPE,
    )


def context_of(trace_id: int, span_id: int) -> SpanContext:
    """The context of a span that is always sampled."""
    return SpanContext(
        trace_id=trace_id,
        span_id=span_id,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def resource_of(attributes: Mapping[str, AttributeValue]) -> Resource:
    """A resource with those attributes alone."""
    # Never Resource.create(): that would merge the agent's own environment into the victim's.
    return Resource(dict(attributes), semconv.SCHEMA_URL)
