"""Enriched events as OTLP requests, by the official encoders.

A request consists of repeated fields only: requests that are joined are one larger request.
"""

from __future__ import annotations

from typing import overload

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord

from otel_oom.enrich.types import (
    EnrichedEvent,
    EnrichedKill,
    EnrichedMissedKills,
    EnrichedNoVictim,
    EnrichedPanic,
    EnrichedUserspaceKill,
)
from otel_oom.otlp.kernel_events import (
    kill_record,
    missed_record,
    no_victim_record,
    panic_record,
)
from otel_oom.otlp.kill_label import kill_label, missed_label, userspace_label
from otel_oom.otlp.kill_span import kill_span
from otel_oom.otlp.userspace_kill import userspace_record, userspace_span
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
    match enriched:
        case EnrichedKill():
            return encode_spans([kill_span(enriched)]).SerializeToString()
        case EnrichedUserspaceKill():
            return encode_spans([userspace_span(enriched)]).SerializeToString()
        case _:
            return None


def kill_counts(enriched: EnrichedEvent) -> dict[str, int]:
    """Return the counters of kills, across boots, that the event increments."""
    match enriched:
        case EnrichedKill():
            return {KILLS + kill_label(enriched): 1}
        case EnrichedUserspaceKill():
            return {KILLS + userspace_label(enriched): 1}
        case EnrichedMissedKills():
            return {KILLS + missed_label(): enriched.event.count}
        case _:
            return {}


def _log_record(enriched: EnrichedEvent) -> ReadableLogRecord:
    match enriched:
        case EnrichedKill():
            return kill_record(enriched)
        case EnrichedUserspaceKill():
            return userspace_record(enriched)
        case EnrichedNoVictim():
            return no_victim_record(enriched)
        case EnrichedPanic():
            return panic_record(enriched)
        case EnrichedMissedKills():
            return missed_record(enriched)
