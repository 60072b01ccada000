"""Events of a history, as the agent would have stored them."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.commands.history.entry import Entry
from otel_oom.enrich.types import EnrichedKill
from otel_oom.otlp.decode import decode_otlp
from otel_oom.otlp.encode import encode_log, encode_span


def entry(
    kill: EnrichedKill,
    id_: int = 1,
    log_status: str = "delivered",
    span_status: str | None = "delivered",
) -> Entry:
    log = ExportLogsServiceRequest.FromString(encode_log(kill))
    span = ExportTraceServiceRequest.FromString(encode_span(kill)) if span_status else None
    return Entry(id_, log, span, decode_otlp(log, span), log_status, span_status)


def log_entry(log: bytes, id_: int = 1) -> Entry:
    request = ExportLogsServiceRequest.FromString(log)
    return Entry(id_, request, None, decode_otlp(request, None), "delivered", None)
