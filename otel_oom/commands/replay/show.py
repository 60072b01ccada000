"""What was found, on screen in place of sending it: sentences, or OTLP/JSON lines."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.commands.console.terminal import printable
from otel_oom.commands.replay.events import Event
from otel_oom.commands.replay.timestamps import FILE, WITHOUT_YEAR, WITHOUT_ZONE
from otel_oom.enrich.event import enrich_event
from otel_oom.enrich.host import Host
from otel_oom.enrich.types import Attributes, VictimOutcome
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp.encode import encode_log, encode_span
from otel_oom.otlp.json import to_json_line

_KNOWN_BY: Final = {
    WITHOUT_ZONE: " (the log tells no zone)",
    WITHOUT_YEAR: " (the log tells no year)",
    FILE: " or earlier (the log tells no date)",
}


class Printer:
    """Prints events."""

    def __init__(self, said: Attributes, *, as_json: bool) -> None:
        """With the attributes that the user ``said`` of the place, as they would be sent."""
        self._host = Host({}, UserSymbolizer(Path("/nonexistent")), said)
        self._as_json = as_json

    def take(self, event: Event) -> None:
        """Print one."""
        enriched = enrich_event(
            event, Snapshot(process_found=False), VictimOutcome(), time.time_ns(), self._host
        )
        log = ExportLogsServiceRequest.FromString(encode_log(enriched))
        if not self._as_json:
            sentence = log.resource_logs[0].scope_logs[0].log_records[0].body.string_value
            sys.stdout.write(f"{_heading(event)}\n  {printable(sentence)}\n")
            return
        sys.stdout.write(to_json_line(log) + "\n")
        span = encode_span(enriched)
        if span is not None:
            sys.stdout.write(to_json_line(ExportTraceServiceRequest.FromString(span)) + "\n")


def _heading(event: Event) -> str:
    """When it was, how well that is known, and where."""
    seconds, ns = divmod(event.time_unix_ns, NS_PER_S)
    at = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns // 1_000_000:03d}Z"
    found = event.provenance
    if found is None:
        return at
    where = f"  {printable(found.host)}" if found.host else ""
    file = f"  {printable(found.file)}" if found.file else ""
    return f"{at}{_KNOWN_BY.get(found.time_source, '')}{where}{file}"
