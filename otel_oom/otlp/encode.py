"""Enriched events as OTLP requests, by the official encoders.

A request consists of repeated fields only: requests that are joined are one larger request.
"""

from __future__ import annotations

import json
from typing import overload

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord

from otel_oom.enrich.types import (
    EnrichedDroppedEvents,
    EnrichedEvent,
    EnrichedKill,
    EnrichedMissedKills,
    EnrichedNoVictim,
    EnrichedPanic,
    EnrichedUserspaceKill,
)
from otel_oom.otlp import attributes, body, semconv
from otel_oom.otlp.kill_span import kill_span
from otel_oom.otlp.log_record import build_log_record, span_context
from otel_oom.otlp.userspace_kill import userspace_record, userspace_span
from otel_oom.store.counters import KILLS


def encode_log(enriched: EnrichedEvent) -> bytes:
    """Encode the log event as an ``ExportLogsServiceRequest``."""
    return encode_logs([build_log_event(enriched)]).SerializeToString()


def build_log_event(enriched: EnrichedEvent) -> ReadableLogRecord:
    """Build the log event; that of a kill has the trace and span id of the kill's span."""
    match enriched:
        case EnrichedKill(event=kill):
            is_fatal = enriched.outcome == "killed"
            return build_log_record(
                enriched,
                name=semconv.EVENT_KILL,
                severity=SeverityNumber.FATAL if is_fatal else SeverityNumber.WARN,
                body=body.kill_body(enriched),
                attributes=attributes.kill_attributes(enriched) | attributes.log_text(kill),
                span=span_context(kill.trace_id, kill.span_id),
            )
        case EnrichedUserspaceKill():
            return userspace_record(enriched)
        case EnrichedNoVictim():
            return build_log_record(
                enriched,
                name=semconv.EVENT_NO_VICTIM,
                severity=SeverityNumber.ERROR,
                body=body.no_victim_body(enriched),
                attributes=attributes.no_victim_attributes(enriched),
            )
        case EnrichedPanic():
            return build_log_record(
                enriched,
                name=semconv.EVENT_PANIC,
                severity=SeverityNumber.FATAL,
                body=body.panic_body(enriched),
                attributes=attributes.panic_attributes(enriched),
            )
        case EnrichedMissedKills():
            return build_log_record(
                enriched,
                name=semconv.EVENT_MISSED,
                severity=SeverityNumber.ERROR,
                body=body.missed_body(enriched.event),
                attributes=attributes.missed_attributes(enriched),
            )
        case EnrichedDroppedEvents(event=dropped):
            return build_log_record(
                enriched,
                name=semconv.EVENT_DROPPED,
                severity=SeverityNumber.ERROR,
                body=body.dropped_body(dropped),
                attributes=attributes.dropped_attributes(enriched),
            )


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
            decision = enriched.event.decision
            constraint = decision.constraint if decision else None
            return {KILLS + format_label(enriched.outcome, constraint, enriched.limit_scope): 1}
        case EnrichedUserspaceKill():
            killer, verified = enriched.event.killer.name, enriched.verified
            return {KILLS + format_label(enriched.outcome, killer=killer, verified=verified): 1}
        case EnrichedMissedKills():
            return {KILLS + format_label("missed"): enriched.event.count}
        case _:
            return {}


def format_label(
    outcome: str,
    constraint: str | None = None,
    scope: str | None = None,
    *,
    killer: str | None = None,
    verified: bool | None = None,
) -> str:
    """Format a label of the counter ``oom.kills`` as JSON; a host has few distinct ones.

    Unknown values are omitted, and so is the kernel as the killer.
    """
    values = {
        semconv.OUTCOME: outcome,
        semconv.KILLER_NAME: killer,
        semconv.KILLER_VERIFIED: verified,
        semconv.DECISION_CONSTRAINT: constraint,
        semconv.LIMIT_SCOPE: scope,
    }
    return json.dumps({name: value for name, value in values.items() if value is not None})
