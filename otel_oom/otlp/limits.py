"""The user's limits of attributes and span events, applied to encoded requests.

Specification: Common, "Attribute Limits"; Trace SDK, "Span Limits". What is dropped is counted in
the request.
"""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_oom.config.limits import NO_LIMITS, TelemetryLimits
from otel_oom.otlp.log_record import RECORD_UID, drop_rank


def limit_logs(request: ExportLogsServiceRequest, limits: TelemetryLimits) -> None:
    """Apply ``limits`` to the log records of ``request``; a resource has none."""
    if limits == NO_LIMITS:
        return
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                _limit_attributes(record, limits.log_attributes, limits.log_characters)


def limit_spans(request: ExportTraceServiceRequest, limits: TelemetryLimits) -> None:
    """Apply ``limits`` to the spans of ``request``; the last events are dropped."""
    if limits == NO_LIMITS:
        return
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                _limit_attributes(span, limits.span_attributes, limits.span_characters)
                if limits.span_events is not None and len(span.events) > limits.span_events:
                    span.dropped_events_count += len(span.events) - limits.span_events
                    del span.events[limits.span_events :]
                for event in span.events:
                    _limit_attributes(event, limits.span_event_attributes, limits.span_characters)


def _limit_attributes(
    item: LogRecord | Span | Span.Event, max_count: int | None, max_characters: int | None
) -> None:
    """Drop the least important attributes, and cut texts."""
    excess = 0 if max_count is None else max(0, len(item.attributes) - max_count)
    if excess:
        names = (each.key for each in item.attributes if each.key != RECORD_UID)
        dropped = {*sorted(names, key=drop_rank)[:excess]}
        kept = [attribute for attribute in item.attributes if attribute.key not in dropped]
        del item.attributes[:]
        item.attributes.extend(kept)
        item.dropped_attributes_count += len(dropped)
    if max_characters is not None:
        for attribute in item.attributes:
            if attribute.key != RECORD_UID:
                _cut_text(attribute.value, max_characters)


def _cut_text(value: AnyValue, max_characters: int) -> None:
    if value.WhichOneof("value") == "string_value":
        value.string_value = value.string_value[:max_characters]
    for item in value.array_value.values if value.HasField("array_value") else ():
        _cut_text(item, max_characters)
