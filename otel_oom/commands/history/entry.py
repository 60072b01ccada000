"""One event of the journal as OTLP: what it was told as, else what it would be told as now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.enrich.event import enrich_event
from otel_oom.enrich.host import Host, host_resource
from otel_oom.enrich.host_attributes import host_attributes
from otel_oom.enrich.types import VictimOutcome
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.model.events import ReaperStep, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.otlp.decode import DecodedEvent, decode_otlp
from otel_oom.otlp.encode import encode_log, encode_span
from otel_oom.store import HistoryRow
from otel_oom.store.codec import decode, decode_event

_NOT_READ: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, RecursionError),
    DecodeError,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as OTLP.

    ``span`` is ``None`` for what has none. ``record`` is the same as plain values. ``log_fate`` and
    ``span_fate`` are as those of :class:`~otel_oom.store.HistoryRow`.
    """

    id: int
    log: ExportLogsServiceRequest
    span: ExportTraceServiceRequest | None
    record: DecodedEvent
    log_fate: str | None
    span_fate: str | None


class UnreadableError(Exception):
    """An event of the journal can't be read by this version; the message says which and why."""


def entry_of(row: HistoryRow, host: Callable[[], Host] | None = None) -> Entry:
    """The event of ``row``; ``host`` is asked for what is not told yet.

    Raises:
        UnreadableError: another version wrote it, or the disk has changed it.
    """
    try:
        log, span = _told(row, host or this_host)
        record = decode_otlp(log, span)
    except _NOT_READ as error:
        raise UnreadableError(
            f"The event {row.uid} can't be read by this version "
            f"({row.undecodable_reason or f'{type(error).__name__}: {error}'})."
        ) from error
    return Entry(row.id, log, span, record, row.log_status, row.span_status)


@cache
def this_host() -> Host:
    """What is known here of the host: the agent's own environment is not known."""
    found = host_attributes()
    return Host(host_resource(found, {}), UserSymbolizer())


def _told(
    row: HistoryRow, host: Callable[[], Host]
) -> tuple[ExportLogsServiceRequest, ExportTraceServiceRequest | None]:
    log, span = row.log, row.span
    if log is None or (row.span_status is not None and span is None):
        log_now, span_now = _now(row, host())
        log, span = log or log_now, span or span_now
    return (
        ExportLogsServiceRequest.FromString(log),
        None if span is None else ExportTraceServiceRequest.FromString(span),
    )


def _now(row: HistoryRow, host: Host) -> tuple[bytes, bytes | None]:
    """What the event would be told as, by what is known of it here and now."""
    end = VictimOutcome(
        decode(VictimExit, row.exit) if row.exit else None,
        decode(tuple[ReaperStep, ...], row.reaper_steps),
    )
    witness = decode(Snapshot, row.snapshot)
    event = decode_event(row.kind, row.event)
    enriched = enrich_event(event, witness, end, row.stored_unix_ns, host)
    return encode_log(enriched), encode_span(enriched) if row.span_status else None
