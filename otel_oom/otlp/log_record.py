"""Log records by OpenTelemetry's conventions for events: what all events share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from msgspec import Struct
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.util.types import AttributeValue

from otel_oom import __version__
from otel_oom.enrich.types import EnrichedEvent
from otel_oom.otlp import semconv
from otel_oom.otlp.semconv import Attributes

SCOPE: Final = InstrumentationScope(semconv.SCOPE, __version__, semconv.SCHEMA_URL)

RECORD_UID: Final = "log.record.uid"
"""Without it, a backend could not recognise a duplicate: it is never cut or dropped."""

_MAX_ATTRIBUTES: Final = 112
"""The limit for a record and its resource together: a backend may reject the whole record.

Loki accepts 128 by default (``limits_config.max_structured_metadata_entries_count``), and adds a
dozen of its own for severity, times, scope and trace. The SDKs limit a record to 128 as well.
"""

_DROP_ORDER: Final = (
    *(f"{semconv.HOST_SYSCTL_VM}.{name}" for name in ("oom_dump_tasks", "overcommit_ratio")),
    *(f"{semconv.HOST_SYSCTL_VM}.min_free_kbytes", f"{semconv.HOST_MEMORY}.commit"),
    f"{semconv.HOST_MEMORY}.buffers",
    *(semconv.HOST_SYSCTL_VM, semconv.HOST_PRESSURE),
    "oom.growth.victim.",
    *(semconv.VICTIM_MEMCG_PRESSURE, semconv.VICTIM_MEMCG_EVENTS, semconv.VICTIM_MEMCG_STAT),
    semconv.HOST_MEMORY,
    *(semconv.LIMIT_MEMCG_PRESSURE, semconv.LIMIT_MEMCG_EVENTS, semconv.LIMIT_MEMCG_STAT),
    *("oom.victim.mappings.", "oom.trigger.", "container.label."),
)
"""Prefixes in the order of dropping: circumstances go before the kill itself."""


class LogFields(Struct, frozen=True):
    """What a log record has: ``attributes`` within the limit of backends, ``dropped`` beyond it."""

    name: str
    time_unix_ns: int
    observed_unix_ns: int
    severity: SeverityNumber
    body: str
    attributes: Attributes
    dropped: int
    resource: Mapping[str, AttributeValue]
    span: SpanContext | None = None


def build_log_fields(  # noqa: PLR0913  each is named at the call
    enriched: EnrichedEvent,
    *,
    name: str,
    severity: SeverityNumber,
    body: str,
    attributes: Attributes,
    time_unix_ns: int,
    resource: Mapping[str, AttributeValue],
    span: SpanContext | None = None,
) -> LogFields:
    """Return the fields of a log record with an EventName, at the kernel's own time.

    It has no severity text, flat attributes within the limit of backends, and a body for display.
    ``span`` is the span that it belongs to.
    """
    kept = _limit_attributes(attributes, resource_count=len(resource))
    return LogFields(
        name=name,
        time_unix_ns=time_unix_ns,
        observed_unix_ns=max(enriched.observed_unix_ns, time_unix_ns),
        severity=severity,
        body=body,
        attributes=kept,
        dropped=len(attributes) - len(kept),
        resource=resource,
        span=span,
    )


def build_log_record(fields: LogFields) -> ReadableLogRecord:
    """Build the SDK's log record."""
    span = fields.span
    bounded = BoundedAttributes(attributes=fields.attributes)
    # With a limit of its own, BoundedAttributes would log each dropped attribute.
    bounded.dropped = fields.dropped
    return ReadableLogRecord(
        log_record=LogRecord(
            timestamp=fields.time_unix_ns,
            observed_timestamp=fields.observed_unix_ns,
            context=set_span_in_context(NonRecordingSpan(span)) if span else None,
            severity_number=fields.severity,
            body=fields.body,
            attributes=bounded,
            event_name=fields.name,
        ),
        resource=sdk_resource(fields.resource),
        instrumentation_scope=SCOPE,
    )


def span_context(trace_id: int, span_id: int) -> SpanContext:
    """Return the context of a sampled span."""
    return SpanContext(
        trace_id=trace_id,
        span_id=span_id,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def sdk_resource(attributes: Mapping[str, AttributeValue]) -> Resource:
    """Return a resource with these attributes only."""
    # Never Resource.create(): it would merge the agent's own environment into the victim's.
    return Resource(dict(attributes), semconv.SCHEMA_URL)


def _limit_attributes(attributes: Attributes, resource_count: int) -> Attributes:
    """Drop the least important attributes of a log record beyond the limit.

    ``resource_count`` is the number of attributes of its resource.
    """
    excess = len(attributes) - max(0, _MAX_ATTRIBUTES - resource_count)
    if excess <= 0:
        return attributes
    dropped = set(sorted(attributes, key=drop_rank)[:excess])
    return {name: value for name, value in attributes.items() if name not in dropped}


@lru_cache(maxsize=512)
def drop_rank(name: str) -> int:
    """Return the place of an attribute in the order of dropping."""
    for rank, prefix in enumerate(_DROP_ORDER):
        if name.startswith(prefix):
            return rank
    return len(_DROP_ORDER)
