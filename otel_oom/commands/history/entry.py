"""Events of the event log as OTLP."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

from google.protobuf.message import DecodeError
from msgspec import Struct
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.enrich.event import enrich_event
from otel_oom.enrich.host import Host, host_attributes, host_resource
from otel_oom.enrich.types import (
    EnrichedKill,
    EnrichedUserspaceKill,
    VictimOutcome,
)
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.model.events import ReaperStep, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.otlp.decode import DecodedEvent, decode_otlp
from otel_oom.otlp.encode import encode_log, encode_span
from otel_oom.store import HistoryRow
from otel_oom.store.types import decode, decode_event

_UNDECODABLE: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, RecursionError),
    DecodeError,
)


class Entry(Struct, frozen=True):
    """An event as OTLP, and decoded from it.

    ``span`` is ``None`` for an event without one. ``log_status`` and ``span_status`` are those of
    :class:`~otel_oom.store.HistoryRow`.
    """

    id: int
    log: ExportLogsServiceRequest
    span: ExportTraceServiceRequest | None
    event: DecodedEvent
    log_status: str | None
    span_status: str | None


class UndecodableEventError(Exception):
    """This version can't decode an event; the message has its uid and the reason."""


def entry_from_row(row: HistoryRow, host: Callable[[], Host] | None = None) -> Entry:
    """Return the event of ``row``; ``host`` is for events that were not queued yet.

    Raises UndecodableEventError if another version wrote it, or the disk damaged it.
    """
    try:
        log, span = _requests(row, host or local_host)
        decoded = decode_otlp(log, span)
    except _UNDECODABLE as error:
        raise UndecodableEventError(
            f"This version can't decode the event {row.uid} "
            f"({row.undecodable_reason or f'{type(error).__name__}: {error}'})."
        ) from error
    return Entry(row.id, log, span, decoded, row.log_status, row.span_status)


def decode_rows(rows: Iterable[HistoryRow]) -> tuple[list[Entry], list[str]]:
    """Return the events of ``rows``, and an error for each that can't be decoded."""
    entries, errors = [], []
    for row in rows:
        try:
            entries.append(entry_from_row(row))
        except UndecodableEventError as error:
            errors.append(str(error))
    return entries, errors


@cache
def local_host() -> Host:
    """Return this host, without the agent's environment, which only the agent knows."""
    return Host(host_resource(host_attributes(), {}), UserSymbolizer())


def _requests(
    row: HistoryRow, host: Callable[[], Host]
) -> tuple[ExportLogsServiceRequest, ExportTraceServiceRequest | None]:
    log, span = row.log, row.span
    if log is None or (row.span_status is not None and span is None):
        fresh_log, fresh_span = _encode(row, host())
        log, span = log or fresh_log, span or fresh_span
    return (
        ExportLogsServiceRequest.FromString(log),
        None if span is None else ExportTraceServiceRequest.FromString(span),
    )


def _encode(row: HistoryRow, host: Host) -> tuple[bytes, bytes | None]:
    outcome = VictimOutcome(
        decode(VictimExit, row.exit) if row.exit else None,
        decode(tuple[ReaperStep, ...], row.reaper_steps),
    )
    snapshot = decode(Snapshot, row.snapshot)
    event = decode_event(row.kind, row.event)
    enriched = enrich_event(event, snapshot, outcome, row.stored_unix_ns, host)
    if isinstance(enriched, EnrichedKill | EnrichedUserspaceKill):
        enriched = replace(enriched, repeat=row.repeat)
    return encode_log(enriched), encode_span(enriched) if row.span_status else None
