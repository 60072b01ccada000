"""Encoded events, decoded again by the messages of OTLP."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_oom.enrich.types import EnrichedEvent, EnrichedKill
from otel_oom.otlp.encode import encode_log, encode_span
from tests.testlib.servers.backend import attributes_to_dict


def resource_logs(enriched: EnrichedEvent) -> ResourceLogs:
    """Return the one resource of the log request."""
    (group,) = ExportLogsServiceRequest.FromString(encode_log(enriched)).resource_logs
    return group


def log_record(enriched: EnrichedEvent) -> LogRecord:
    """Return the one record of the log request."""
    (record,) = resource_logs(enriched).scope_logs[0].log_records
    return record


def parse_log_record(encoded: bytes) -> LogRecord:
    """Return the one record of an encoded request."""
    (group,) = ExportLogsServiceRequest.FromString(encoded).resource_logs
    (record,) = group.scope_logs[0].log_records
    return record


def log_attributes(enriched: EnrichedEvent) -> dict[str, Any]:
    """Return the attributes of the record."""
    return attributes_to_dict(log_record(enriched).attributes)


def span(enriched: EnrichedKill) -> Span:
    """Return the one span of the trace request."""
    request = ExportTraceServiceRequest.FromString(encode_span(enriched))
    (one,) = request.resource_spans[0].scope_spans[0].spans
    return one
