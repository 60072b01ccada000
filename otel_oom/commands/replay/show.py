"""Output of ``--dry-run`` and ``--json``: events on screen instead of sent."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.commands.replay.events import Event
from otel_oom.commands.replay.timestamps import FILE, WITHOUT_YEAR, WITHOUT_ZONE
from otel_oom.enrich.event import enrich_event
from otel_oom.enrich.host import Host
from otel_oom.enrich.types import Attributes, VictimOutcome
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import NS_PER_MS, NS_PER_S
from otel_oom.otlp.encode import encode_log, encode_span
from otel_oom.otlp.json import to_json_line

_TIME_NOTES: Final = {
    WITHOUT_ZONE: " (no time zone in log; local time assumed)",
    WITHOUT_YEAR: " (no year in log)",
    FILE: " or earlier (no date in log)",
}


def show_events(events: Iterable[Event], place: Attributes, *, as_json: bool) -> None:
    """Print events as they would be sent; ``place`` are the user's own resource attributes."""
    host = Host({}, UserSymbolizer(Path("/nonexistent")), place)
    show = _print_json if as_json else _print_text
    for event in events:
        snapshot = Snapshot(process_found=False)
        enriched = enrich_event(event, snapshot, VictimOutcome(), time.time_ns(), host)
        log, span = encode_log(enriched), encode_span(enriched)
        show(
            event,
            ExportLogsServiceRequest.FromString(log),
            ExportTraceServiceRequest.FromString(span) if span is not None else None,
        )


def _print_json(
    _: Event, log: ExportLogsServiceRequest, span: ExportTraceServiceRequest | None
) -> None:
    sys.stdout.write(to_json_line(log) + "\n")
    if span:
        sys.stdout.write(to_json_line(span) + "\n")


def _print_text(
    event: Event, log: ExportLogsServiceRequest, _: ExportTraceServiceRequest | None
) -> None:
    from otel_oom.commands.console import page  # noqa: PLC0415  not for --json
    from otel_oom.commands.console.output import print_page  # noqa: PLC0415  likewise

    record = log.resource_logs[0].scope_logs[0].log_records[0]
    print_page([page.text(_heading(event), "bold"), page.paragraph(record.body.string_value)])


def _heading(event: Event) -> str:
    """Return the time, its precision, host and file."""
    seconds, ns = divmod(event.time_unix_ns, NS_PER_S)
    date = datetime.fromtimestamp(seconds, UTC)
    parts = [f"{date:%Y-%m-%dT%H:%M:%S}.{ns // NS_PER_MS:03d}Z"]
    if event.provenance is not None:
        parts[0] += _TIME_NOTES.get(event.provenance.time_source, "")
        parts += filter(None, (event.provenance.host, event.provenance.file))
    return "  ".join(parts)
