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
    for event in events:
        snapshot = Snapshot(process_found=False)
        enriched = enrich_event(event, snapshot, VictimOutcome(), time.time_ns(), host)
        log, span = ExportLogsServiceRequest.FromString(encode_log(enriched)), encode_span(enriched)
        if not as_json:
            _print(event, log.resource_logs[0].scope_logs[0].log_records[0].body.string_value)
            continue
        sys.stdout.write(to_json_line(log) + "\n")
        if span is not None:
            sys.stdout.write(to_json_line(ExportTraceServiceRequest.FromString(span)) + "\n")


def _print(event: Event, body: str) -> None:
    from otel_oom.commands.console import page  # noqa: PLC0415  not for --json
    from otel_oom.commands.console.output import print_page  # noqa: PLC0415  likewise

    print_page([page.text(_heading(event), "bold"), page.paragraph(body)])


def _heading(event: Event) -> str:
    seconds, ns = divmod(event.time_unix_ns, NS_PER_S)
    date = datetime.fromtimestamp(seconds, UTC)
    parts = [f"{date:%Y-%m-%dT%H:%M:%S}.{ns // NS_PER_MS:03d}Z"]
    if event.provenance is not None:
        parts[0] += _TIME_NOTES.get(event.provenance.time_source, "")
        parts[0] += " (unverified)" if event.provenance.is_unverified else ""
        parts += filter(None, (event.provenance.host, event.provenance.file))
    return "  ".join(parts)
