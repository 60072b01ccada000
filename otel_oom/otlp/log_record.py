"""Log records by OpenTelemetry's conventions for events: what all events share."""

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
from otel_oom.enrich.types import EnrichedEvent
from otel_oom.otlp import semconv
from otel_oom.otlp.attribute_limit import limit_attributes
from otel_oom.otlp.semconv import Attributes

SCOPE: Final = InstrumentationScope(semconv.SCOPE, __version__, semconv.SCHEMA_URL)


def build_log_record(  # noqa: PLR0913  each is named at the call
    enriched: EnrichedEvent,
    *,
    name: str,
    severity: SeverityNumber,
    body: str,
    attributes: Attributes,
    span: SpanContext | None = None,
) -> ReadableLogRecord:
    """Build a log record with an EventName, at the kernel's own time.

    It has no severity text, flat attributes within the limit of backends, and a body for display.
    ``span`` is the span that it belongs to.
    """
    resource = enriched.resource
    return ReadableLogRecord(
        log_record=LogRecord(
            timestamp=enriched.event.time_unix_ns,
            observed_timestamp=enriched.observed_unix_ns,
            context=set_span_in_context(NonRecordingSpan(span)) if span else None,
            severity_number=severity,
            body=body,
            attributes=limit_attributes(attributes, resource_count=len(resource)),
            event_name=name,
        ),
        resource=sdk_resource(resource),
        instrumentation_scope=SCOPE,
    )


def span_context(trace_id: int, span_id: int) -> SpanContext:
    """Return the context of a sampled span."""
    return SpanContext(
        trace_id=trace_id,
        span_id=span_id,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def sdk_resource(attributes: Mapping[str, AttributeValue]) -> Resource:
    """Return a resource with these attributes only."""
    # Never Resource.create(): it would merge the agent's own environment into the victim's.
    return Resource(dict(attributes), semconv.SCHEMA_URL)
