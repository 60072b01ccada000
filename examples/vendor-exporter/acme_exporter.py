"""OpenTelemetry exporters to the API of a made-up vendor: one JSON array for each batch.

``ACME_URL`` is the address of the API, ``ACME_KEY`` its key.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

TIMEOUT_S = 10.0


def post(path: str, items: Sequence[Mapping[str, Any]]) -> bool:
    """Send one batch; return true if the vendor has it."""
    request = urllib.request.Request(  # noqa: S310  the address is the user's
        os.environ["ACME_URL"] + path,
        json.dumps(items, default=str).encode(),
        {"content-type": "application/json", "x-acme-key": os.environ.get("ACME_KEY", "")},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310  likewise
            status: int = response.status
            return status < 300  # noqa: PLR2004  a success of HTTP
    except (OSError, urllib.error.URLError):
        return False


class AcmeLogExporter(LogRecordExporter):
    """Exporter of log records."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send a batch; FAILURE means that the caller may try again."""
        items = [
            {
                "time": readable.log_record.timestamp,
                "event": readable.log_record.event_name,
                "message": readable.log_record.body,
                "fields": dict(readable.log_record.attributes or {}),
                "origin": dict(readable.resource.attributes),
            }
            for readable in batch
        ]
        return (
            LogRecordExportResult.SUCCESS if post("/logs", items) else LogRecordExportResult.FAILURE
        )

    def shutdown(self) -> None:
        """Do nothing: no connection is kept."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: no batch is kept."""
        del timeout_millis
        return True


class AcmeSpanExporter(SpanExporter):
    """Exporter of spans."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; FAILURE means that the caller may try again."""
        items = [
            {
                "name": span.name,
                "start": span.start_time,
                "end": span.end_time,
                "fields": dict(span.attributes or {}),
                "origin": dict(span.resource.attributes),
            }
            for span in spans
        ]
        return SpanExportResult.SUCCESS if post("/spans", items) else SpanExportResult.FAILURE
