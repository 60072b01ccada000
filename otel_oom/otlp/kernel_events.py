"""Log records of the kernel's events."""

from __future__ import annotations

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord

from otel_oom.enrich.types import EnrichedKill, EnrichedMissedKills, EnrichedNoVictim, EnrichedPanic
from otel_oom.otlp import attributes, body, semconv
from otel_oom.otlp.log_record import build_log_record, span_context


def kill_record(enriched: EnrichedKill) -> ReadableLogRecord:
    """Build the log event ``oom.kill``, with the trace and span id of the kill's span."""
    kill = enriched.event
    return build_log_record(
        enriched,
        name=semconv.EVENT_KILL,
        severity=SeverityNumber.FATAL if enriched.outcome == "killed" else SeverityNumber.WARN,
        body=body.kill_body(enriched),
        attributes=attributes.kill_attributes(enriched) | attributes.log_text(kill),
        span=span_context(kill.trace_id, kill.span_id),
    )


def no_victim_record(enriched: EnrichedNoVictim) -> ReadableLogRecord:
    """Build the log event ``oom.no_victim``."""
    return build_log_record(
        enriched,
        name=semconv.EVENT_NO_VICTIM,
        severity=SeverityNumber.ERROR,
        body=body.no_victim_body(enriched),
        attributes=attributes.no_victim_attributes(enriched) | attributes.log_text(enriched.event),
    )


def panic_record(enriched: EnrichedPanic) -> ReadableLogRecord:
    """Build the log event ``oom.panic``."""
    return build_log_record(
        enriched,
        name=semconv.EVENT_PANIC,
        severity=SeverityNumber.FATAL,
        body=body.panic_body(enriched),
        attributes=attributes.panic_attributes(enriched) | attributes.log_text(enriched.event),
    )


def missed_record(enriched: EnrichedMissedKills) -> ReadableLogRecord:
    """Build the log event ``oom.missed``."""
    return build_log_record(
        enriched,
        name=semconv.EVENT_MISSED,
        severity=SeverityNumber.ERROR,
        body=body.missed_body(enriched.event),
        attributes=attributes.missed_attributes(enriched),
    )
