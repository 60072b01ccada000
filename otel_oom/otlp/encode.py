"""Enriched events as OTLP requests.

A request consists of repeated fields only: requests that are joined are one larger request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.config.limits import NO_LIMITS, TelemetryLimits
from otel_oom.enrich.types import EnrichedEvent, EnrichedKill, EnrichedUserspaceKill
from otel_oom.otlp.event import Event, build_event, log_fields
from otel_oom.otlp.limits import limit_logs, limit_spans
from otel_oom.otlp.log_request import build_log_request


def encode_log(enriched: EnrichedEvent, limits: TelemetryLimits = NO_LIMITS) -> bytes:
    """Encode the log event as an ``ExportLogsServiceRequest``, within the user's ``limits``."""
    return encode_event_log(build_event(enriched), limits)


def encode_event_log(event: Event, limits: TelemetryLimits = NO_LIMITS) -> bytes:
    """Encode the log record of ``event``, as :func:`encode_log`."""
    try:
        request = build_log_request(log_fields(event))
    except (KeyError, TypeError, ValueError):
        request = encode_logs([event.to_readable_record()])
    limit_logs(request, limits)
    return request.SerializeToString()


@overload
def encode_span(
    enriched: EnrichedKill | EnrichedUserspaceKill, limits: TelemetryLimits = ...
) -> bytes: ...
@overload
def encode_span(enriched: EnrichedEvent, limits: TelemetryLimits = ...) -> bytes | None: ...
def encode_span(enriched: EnrichedEvent, limits: TelemetryLimits = NO_LIMITS) -> bytes | None:
    """Encode the span as an ``ExportTraceServiceRequest``; ``None`` for an event without one."""
    return encode_event_span(build_event(enriched), limits)


def encode_event_span(
    event: Event,
    limits: TelemetryLimits = NO_LIMITS,
    drop_attributes: Callable[[ExportTraceServiceRequest], None] | None = None,
) -> bytes | None:
    """Encode the span of ``event``, as :func:`encode_span`, after ``drop_attributes``."""
    span = event.to_span()
    if span is None:
        return None
    request = encode_spans([span])
    if drop_attributes:
        drop_attributes(request)
    limit_spans(request, limits)
    return request.SerializeToString()
