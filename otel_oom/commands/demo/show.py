"""Received telemetry on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_oom.commands.console.terminal import printable
from otel_oom.model.units import NS_PER_MS, NS_PER_S, NS_PER_US

_NAME_WIDTH: Final = 34
_MOST_LINES: Final = 24


def log_lines(request: ExportLogsServiceRequest) -> Iterable[str]:
    """The log events of a request, with their resources."""
    for resource_logs in request.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield from _log(record)
                yield ""
                yield "  Resource: what was killed"
                yield from _attributes(resource_logs.resource.attributes)
                yield "  Attributes"
                yield from _attributes(record.attributes)


def span_lines(request: ExportTraceServiceRequest) -> Iterable[str]:
    """The spans of a request, each with its timeline."""
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield from _span(span)


def _log(record: LogRecord) -> Iterable[str]:
    severity = SeverityNumber.Name(record.severity_number).removeprefix("SEVERITY_NUMBER_")
    yield f"Log event {printable(record.event_name)}   {severity}   {_time(record.time_unix_nano)}"
    yield f"  {printable(record.body.string_value)}"


def _span(span: Span) -> Iterable[str]:
    took_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / NS_PER_MS
    yield f"Span {printable(span.name)}   {took_ms:.3f} ms   {_time(span.start_time_unix_nano)}"
    yield f"  trace {span.trace_id.hex()}   span {span.span_id.hex()}"
    for event in span.events:
        at_ms = (event.time_unix_nano - span.start_time_unix_nano) / NS_PER_MS
        yield f"  {at_ms:10.3f} ms  ●  {printable(event.name)}"


def _attributes(attributes: Iterable[KeyValue]) -> Iterable[str]:
    for attribute in sorted(attributes, key=lambda attribute: attribute.key):
        for index, part in enumerate(_shortened(_value(attribute.value).splitlines())):
            name = printable(attribute.key) if index == 0 else ""
            yield f"    {name:{_NAME_WIDTH}} {printable(part)}"


def _shortened(lines: list[str]) -> list[str]:
    """Of a text that fills the screen, its first line and its last."""
    if len(lines) > _MOST_LINES:
        return [lines[0], f"… {len(lines) - 2} lines …", lines[-1]]
    return lines or [""]


def _value(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    return "" if kind is None else str(getattr(value, kind))


def _time(unix_ns: int) -> str:
    at = datetime.fromtimestamp(unix_ns // NS_PER_S, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{unix_ns % NS_PER_S // NS_PER_US:06d}Z"
