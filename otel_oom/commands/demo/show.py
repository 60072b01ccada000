"""Received telemetry as a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from rich.console import RenderableType

from otel_oom.commands.console import page
from otel_oom.commands.history.labels import format_time
from otel_oom.model.units import NS_PER_MS

_MAX_LINES: Final = 24


def render_telemetry(
    log: ExportLogsServiceRequest, span: ExportTraceServiceRequest
) -> Iterator[RenderableType]:
    """Yield the log events with their resources, and the spans with their events."""
    for resource_logs in log.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield ""
                yield from _log(record)
                yield ""
                yield page.paragraph("Resource: the victim", "bold")
                yield _attributes(resource_logs.resource.attributes)
                yield page.paragraph("Attributes", "bold")
                yield _attributes(record.attributes)
    for resource_spans in span.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for item in scope_spans.spans:
                yield ""
                yield from _span(item)
                yield ""


def _log(record: LogRecord) -> Iterator[RenderableType]:
    severity = SeverityNumber.Name(record.severity_number).removeprefix("SEVERITY_NUMBER_")
    time = format_time(record.time_unix_nano, exact=True)
    yield page.text(f"Log event {record.event_name}   {severity}   {time}", "bold red")
    yield page.paragraph(record.body.string_value)


def _span(span: Span) -> Iterator[RenderableType]:
    duration_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / NS_PER_MS
    time = format_time(span.start_time_unix_nano, exact=True)
    yield page.text(f"Span {span.name}   {duration_ms:.3f} ms   {time}", "bold red")
    yield page.paragraph(f"trace {span.trace_id.hex()}   span {span.span_id.hex()}")
    for event in span.events:
        offset_ms = (event.time_unix_nano - span.start_time_unix_nano) / NS_PER_MS
        yield page.paragraph(f"{offset_ms:10.3f} ms  ●  {event.name}")


def _attributes(attributes: Iterable[KeyValue]) -> RenderableType:
    return page.definitions(
        (attribute.key, _shortened(_lines(attribute.value)))
        for attribute in sorted(attributes, key=lambda attribute: attribute.key)
    )


def _shortened(lines: list[str]) -> list[str]:
    """Return the lines of a text; of one that fills the screen, the first and the last."""
    if len(lines) > _MAX_LINES:
        return [lines[0], f"… {len(lines) - 2} lines …", lines[-1]]
    return lines


def _lines(value: AnyValue) -> list[str]:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [line for item in value.array_value.values for line in _lines(item)]
    return [] if kind is None else str(getattr(value, kind)).splitlines()
