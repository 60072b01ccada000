"""Enriched events as OTLP requests, by the official encoders.

A request consists of repeated fields only: requests that are joined are one larger request.
"""

from __future__ import annotations

from typing import overload

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from otel_oom.enrich import (
    EnrichedKill,
    EnrichedMissedKills,
    EnrichedNoVictim,
    EnrichedPanic,
)
from otel_oom.enrich.event import EnrichedEvent
from otel_oom.enrich.userspace_kill import EnrichedUserspaceKill
from otel_oom.otlp import kernel_kill, userspace_kill
from otel_oom.store.counters import KILLS


def encode_log(enriched: EnrichedEvent) -> bytes:
    """Encode the log event as an ``ExportLogsServiceRequest``."""
    return encode_logs([_log_record(enriched)]).SerializeToString()


@overload
def encode_span(enriched: EnrichedKill | EnrichedUserspaceKill) -> bytes: ...
@overload
def encode_span(enriched: EnrichedEvent) -> bytes | None: ...
def encode_span(enriched: EnrichedEvent) -> bytes | None:
    """Encode the span as an ``ExportTraceServiceRequest``; ``None`` for an event without one."""
    span = _span(enriched)
    return None if span is None else encode_spans([span]).SerializeToString()


def kill_counts(enriched: EnrichedEvent) -> dict[str, int]:
    """Return the counters of kills, across boots, that the event raises."""
    if isinstance(enriched, EnrichedMissedKills):
        return {KILLS + kernel_kill.missed_label(): enriched.event.count}
    if isinstance(enriched, EnrichedNoVictim | EnrichedPanic):
        return {}
    if isinstance(enriched, EnrichedKill):
        return {KILLS + kernel_kill.kill_label(enriched): 1}
    return {KILLS + userspace_kill.userspace_label(enriched): 1}


def _log_record(enriched: EnrichedEvent) -> ReadableLogRecord:
    if isinstance(enriched, EnrichedKill):
        return kernel_kill.log_record(enriched)
    if isinstance(enriched, EnrichedNoVictim):
        return kernel_kill.no_victim_record(enriched)
    if isinstance(enriched, EnrichedPanic):
        return kernel_kill.panic_record(enriched)
    if isinstance(enriched, EnrichedMissedKills):
        return kernel_kill.missed_record(enriched)
    return userspace_kill.userspace_record(enriched)


def _span(enriched: EnrichedEvent) -> ReadableSpan | None:
    if isinstance(enriched, EnrichedKill):
        return kernel_kill.span(enriched)
    if isinstance(enriched, EnrichedNoVictim | EnrichedPanic | EnrichedMissedKills):
        return None
    return userspace_kill.userspace_span(enriched)
