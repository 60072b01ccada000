"""OTLP requests as the official SDK's objects, which exporters of other packages take.

It is the inverse of the official encoder: encoded again, the objects give the same request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2 as common
from opentelemetry.proto.logs.v1 import logs_pb2 as logs
from opentelemetry.proto.trace.v1 import trace_pb2 as trace
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)


def decode_log_records(body: bytes) -> list[ReadableLogRecord]:
    """Decode an ``ExportLogsServiceRequest``. Raises DecodeError."""
    return [
        ReadableLogRecord(_log_record(record), resource, scope)
        for group in ExportLogsServiceRequest.FromString(body).resource_logs
        for resource in [_resource(group)]
        for scoped in group.scope_logs
        for scope in [_scope(scoped)]
        for record in scoped.log_records
    ]


def decode_spans(body: bytes) -> list[ReadableSpan]:
    """Decode an ``ExportTraceServiceRequest``. Raises DecodeError."""
    return [
        _span(span, resource, scope)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for resource in [_resource(group)]
        for scoped in group.scope_spans
        for scope in [_scope(scoped)]
        for span in scoped.spans
    ]


def _log_record(record: logs.LogRecord) -> LogRecord:
    context = None
    if record.trace_id or record.span_id:
        span = _context(record.trace_id, record.span_id, record.flags)
        context = set_span_in_context(NonRecordingSpan(span))
    return LogRecord(
        timestamp=record.time_unix_nano or None,
        observed_timestamp=record.observed_time_unix_nano,
        context=context,
        severity_text=record.severity_text or None,
        severity_number=SeverityNumber(record.severity_number),
        body=_value(record.body),
        attributes=_attributes(record.attributes, record.dropped_attributes_count),
        event_name=record.event_name or None,
    )


def _span(span: trace.Span, resource: Resource, scope: InstrumentationScope | None) -> ReadableSpan:
    state, parent = span.trace_state, None
    if span.parent_span_id:
        parent = _context(
            span.trace_id,
            span.parent_span_id,
            TraceFlags.SAMPLED,
            is_remote=_is_remote(span.flags),
        )
    events = [
        Event(
            event.name,
            _attributes(event.attributes, event.dropped_attributes_count),
            event.time_unix_nano,
        )
        for event in span.events
    ]
    return ReadableSpan(
        name=span.name,
        # What is exported was sampled.
        context=_context(span.trace_id, span.span_id, TraceFlags.SAMPLED, state),
        parent=parent,
        resource=resource,
        attributes=_attributes(span.attributes, span.dropped_attributes_count),
        events=_bounded(events, span.dropped_events_count),
        links=_bounded(map(_link, span.links), span.dropped_links_count),
        # OTLP has one kind more in front: unspecified.
        kind=SpanKind(max(0, span.kind - 1)),
        status=Status(StatusCode(span.status.code), span.status.message or None),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=scope,
    )


def _link(link: trace.Span.Link) -> Link:
    remote = _is_remote(link.flags)
    context = _context(
        link.trace_id, link.span_id, TraceFlags.SAMPLED, link.trace_state, is_remote=remote
    )
    return Link(context, _attributes(link.attributes, link.dropped_attributes_count))


def _is_remote(flags: int) -> bool:
    return bool(flags & trace.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)


def _context(
    trace_id: bytes, span_id: bytes, flags: int, state: str = "", *, is_remote: bool = False
) -> SpanContext:
    return SpanContext(
        trace_id=int.from_bytes(trace_id),
        span_id=int.from_bytes(span_id),
        is_remote=is_remote,
        trace_flags=TraceFlags(flags & trace.SPAN_FLAGS_TRACE_FLAGS_MASK),
        trace_state=TraceState.from_header([state]) if state else None,
    )


def _resource(group: logs.ResourceLogs | trace.ResourceSpans) -> Resource:
    # Never Resource.create(): it would merge the agent's own environment into the victim's.
    attributes = {pair.key: _value(pair.value) for pair in group.resource.attributes}
    return Resource(attributes, group.schema_url or None)


def _scope(scoped: logs.ScopeLogs | trace.ScopeSpans) -> InstrumentationScope | None:
    scope = scoped.scope
    if not scope.name and not scope.attributes:
        return None
    attributes = {pair.key: _value(pair.value) for pair in scope.attributes}
    return InstrumentationScope(
        scope.name, scope.version or None, scoped.schema_url or None, attributes or None
    )


def _attributes(pairs: Iterable[common.KeyValue], dropped: int) -> BoundedAttributes:
    bounded = BoundedAttributes(attributes={pair.key: _value(pair.value) for pair in pairs})
    bounded.dropped = dropped
    return bounded


def _bounded(items: Iterable[Any], dropped: int) -> BoundedList[Any]:
    """Return a list with a count of what was dropped from it."""
    values = list(items)
    bounded = BoundedList.from_seq(max(1, len(values)), values)
    bounded.dropped = dropped
    return bounded


def _value(value: common.AnyValue) -> Any:  # noqa: ANN401  any value of OTLP
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return tuple(_value(each) for each in value.array_value.values)
        case "kvlist_value":
            return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
        case field:
            return getattr(value, field)
