"""The event that programs get: what its log record and its span are made of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.util.types import AttributeValue

from otel_oom.enrich.types import (
    EnrichedDroppedEvents,
    EnrichedEvent,
    EnrichedKill,
    EnrichedMissedKills,
    EnrichedNearLimit,
    EnrichedNoVictim,
    EnrichedPanic,
    EnrichedUserspaceKill,
)
from otel_oom.otlp import attributes as attributes_of
from otel_oom.otlp import body, semconv
from otel_oom.otlp.kill_span import kill_span
from otel_oom.otlp.log_record import LogFields, build_log_fields, build_log_record, span_context
from otel_oom.otlp.near_limit import near_limit_attributes, near_limit_body
from otel_oom.otlp.semconv import Attributes, Value
from otel_oom.otlp.userspace_kill import userspace_attributes, userspace_body, userspace_span
from otel_oom.otlp.victim_end import end_body, end_event_attributes, find_end

_LOG = logging.getLogger(__name__)

_LOG_ONLY: Final = "log.record.original"
"""A span has no log text: the log event with its id has it."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event with its resource, as it is about to be sent.

    A copy with other values (:func:`dataclasses.replace`) changes the log record and the span.
    """

    name: str
    """Name of the event, such as ``oom.kill``."""
    uid: str
    """``log.record.uid``: the same whenever the event is read again."""
    time_unix_ns: int
    """Time of the kernel, in nanoseconds since 1970."""
    severity: SeverityNumber
    """``FATAL`` for a kill."""
    sentence: str
    """One sentence for a person: the body of the log record."""
    attributes: dict[str, Value]
    """Attributes of the log record; the span has them too, but for the kernel's report."""
    resource: dict[str, AttributeValue]
    """The victim as service, pod and container of its host; never the program itself."""
    _enriched: EnrichedEvent = field(repr=False)
    _is_end: bool = field(default=False, repr=False)

    def to_log_record(self) -> ReadWriteLogRecord:
        """Build the log record; ``Logger.emit`` of an SDK passes its resource through."""
        readable = self.to_readable_record()
        dropped_count = readable.dropped_attributes
        record = ReadWriteLogRecord(
            readable.log_record, readable.resource, readable.instrumentation_scope
        )
        # It has made a copy of the attributes, which counts what its own limits drop.
        record.log_record.attributes.dropped += dropped_count  # type: ignore[union-attr]
        return record

    def to_readable_record(self) -> ReadableLogRecord:
        """Build the log record for an exporter; that of a kill has the ids of its span."""
        return build_log_record(log_fields(self))

    def to_span(self) -> ReadableSpan | None:
        """Build the span for a ``SpanProcessor``, up to the victim's exit if that is known.

        Only a kill has a span, unless the kernel skipped it.
        """
        if self._is_end:
            return None
        attributes = {k: v for k, v in self.attributes.items() if k != _LOG_ONLY}
        match self._enriched:
            case EnrichedKill(event=kill) as enriched:
                if kill.skipped:
                    return None
                return kill_span(enriched, attributes, self.sentence, self.resource)
            case EnrichedUserspaceKill() as enriched:
                return userspace_span(enriched, attributes, self.sentence, self.resource)
            case _:
                return None


def log_fields(event: Event) -> LogFields:
    """Return the fields of the log record; that of a kill has the ids of its span."""
    enriched, span = event._enriched, None  # noqa: SLF001  no program needs it
    if isinstance(enriched, EnrichedKill | EnrichedUserspaceKill):
        span = span_context(enriched.event.trace_id, enriched.event.span_id)
    return build_log_fields(
        enriched,
        name=event.name,
        severity=event.severity,
        body=event.sentence,
        attributes=event.attributes,
        time_unix_ns=event.time_unix_ns,
        resource=event.resource,
        span=span,
    )


Processor = Callable[[Event], Event | None]
"""Returns an event, which it may change, or ``None`` to drop it."""


def build_event(enriched: EnrichedEvent) -> Event:
    """Build the event of an enriched one."""
    name, severity, sentence, attributes = _describe(enriched)
    return Event(
        name=name,
        uid=enriched.event.uid,
        time_unix_ns=enriched.event.time_unix_ns,
        severity=severity,
        sentence=sentence,
        attributes=attributes,
        resource=dict(enriched.resource),
        _enriched=enriched,
    )


def build_end_event(enriched: EnrichedEvent) -> Event | None:
    """Build the event of the victim's end, for backends without spans; ``None`` if unknown.

    It is ``oom.victim.exited`` or ``oom.victim.alive``.
    """
    end = find_end(enriched) if isinstance(enriched, EnrichedKill) else None
    if end is None or not isinstance(enriched, EnrichedKill):
        return None
    return Event(
        name=end.name,
        uid=enriched.event.end_uid,
        time_unix_ns=end.unix_ns,
        severity=SeverityNumber.INFO if end.exited else SeverityNumber.WARN,
        sentence=end_body(enriched, end),
        attributes=end_event_attributes(enriched, end),
        resource=dict(enriched.resource),
        _enriched=enriched,
        _is_end=True,
    )


def _describe(  # noqa: PLR0911  one for each kind of event
    enriched: EnrichedEvent,
) -> tuple[str, SeverityNumber, str, Attributes]:
    match enriched:
        case EnrichedKill(event=kill):
            is_fatal = enriched.outcome == "killed"
            return (
                semconv.EVENT_KILL,
                SeverityNumber.FATAL if is_fatal else SeverityNumber.WARN,
                body.kill_body(enriched),
                attributes_of.kill_attributes(enriched) | attributes_of.log_text(kill),
            )
        case EnrichedUserspaceKill():
            return (
                semconv.EVENT_KILL,
                SeverityNumber.FATAL,
                userspace_body(enriched),
                userspace_attributes(enriched),
            )
        case EnrichedNoVictim():
            return (
                semconv.EVENT_NO_VICTIM,
                SeverityNumber.ERROR,
                body.no_victim_body(enriched),
                attributes_of.no_victim_attributes(enriched),
            )
        case EnrichedNearLimit():
            return (
                semconv.EVENT_NEAR_LIMIT,
                SeverityNumber.WARN,
                near_limit_body(enriched),
                near_limit_attributes(enriched),
            )
        case EnrichedPanic():
            return (
                semconv.EVENT_PANIC,
                SeverityNumber.FATAL,
                body.panic_body(enriched),
                attributes_of.panic_attributes(enriched),
            )
        case EnrichedMissedKills():
            return (
                semconv.EVENT_MISSED,
                SeverityNumber.ERROR,
                body.missed_body(enriched.event),
                attributes_of.missed_attributes(enriched),
            )
        case EnrichedDroppedEvents(event=dropped):
            return (
                semconv.EVENT_DROPPED,
                SeverityNumber.ERROR,
                body.dropped_body(dropped),
                attributes_of.dropped_attributes(enriched),
            )


def process_event(
    event: Event,
    processors: Iterable[Processor],
    on_error: Callable[[Processor, Exception], None] | None = None,
) -> Event | None:
    """Pass an event through ``processors`` in their order; ``None`` if one of them drops it.

    A processor that raises has no effect on the event; ``on_error`` gets the exception.
    """
    for processor in processors:
        # It may write into the dictionaries before it raises.
        copy = replace(event, attributes=dict(event.attributes), resource=dict(event.resource))
        try:
            result = processor(copy)
            if not isinstance(result, Event | None):
                raise TypeError(f"returned {type(result).__name__}, not an event or None")  # noqa: TRY301  handled as its own
        except Exception as error:  # noqa: BLE001  other people's code
            if on_error is None:
                _LOG.warning("Processor %r failed: %s: %s", processor, type(error).__name__, error)
            else:
                on_error(processor, error)
            continue
        if result is None:
            return None
        event = result
    return event
