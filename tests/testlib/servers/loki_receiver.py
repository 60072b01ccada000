"""A stand-in for Loki that enforces what Loki's documentation says of OTLP.

Loki's licence keeps it out of these tests. This receiver has its path, its mapping and its
limits, and no query language: a test reads the stored entries.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Container
from http import HTTPStatus
from typing import Final, Self

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tests.testlib.servers.http_server import HttpServer, Request, http_response
from tests.testlib.servers.loki_entry import INDEX_LABELS, Entry, matches_selector, parse_entries
from tests.testlib.servers.loki_limits import Limits, Rejection, check_entry
from tests.testlib.servers.loki_tenant import Tenant
from tests.testlib.telemetry_watch import check_telemetry

PATH: Final = "/otlp/v1/logs"
_ADDED: Final = frozenset({"event_name", "oom_event"})


class LokiReceiver:
    """Listens on loopback in its context, and keeps what Loki would store."""

    def __init__(
        self,
        limits: Limits | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        index_labels: Container[str] = INDEX_LABELS,
    ) -> None:
        """Begin empty.

        Args:
            limits: by default the documented ones.
            clock_ns: returns Unix time.
            index_labels: resource attributes that are labels, by default Loki's own default.
        """
        self.entries: list[Entry] = []
        self.rejections: list[Rejection] = []
        self._limits = limits or Limits()
        self._tenant = Tenant(self._limits)
        self._clock_ns = clock_ns
        self._index_labels = index_labels
        self._lock = threading.Lock()
        self._server = HttpServer(self._answer)

    @property
    def url(self) -> str:
        """Base URL; OTLP is received at /otlp below it."""
        return self._server.url

    def find(self, **fields: str) -> list[Entry]:
        """Return the entries that have these labels and structured metadata, oldest first."""
        entries = [entry for entry in self.entries if fields.items() <= entry.fields.items()]
        return sorted(entries, key=lambda entry: entry.time)

    def read_streams(self, selector: str) -> list[Entry]:
        """Return all entries of the streams that a LogQL selector, in braces, reads."""
        return [entry for entry in self.entries if matches_selector(entry.labels, selector)]

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.__exit__(*exception)

    def _answer(self, request: Request) -> bytes:
        if request.target != PATH:
            return http_response(HTTPStatus.NOT_FOUND)
        if request.headers["Content-Type"] != "application/x-protobuf":
            return http_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        packed = request.headers.get("Content-Encoding") == "gzip"
        try:
            body = gzip.decompress(request.body) if packed else request.body
            logs = ExportLogsServiceRequest.FromString(body)
        except (OSError, EOFError, DecodeError) as error:
            return http_response(HTTPStatus.BAD_REQUEST, str(error).encode())
        check_telemetry(_without_names(logs))
        with self._lock:
            rejections = self._store(logs)
            self.rejections += rejections
        if not rejections:
            return http_response(HTTPStatus.NO_CONTENT)
        worst = max(rejections, key=lambda rejection: rejection.status)
        return http_response(worst.status, worst.text.encode(), Content_Type="text/plain")

    def _store(self, logs: ExportLogsServiceRequest) -> list[Rejection]:
        """Store the valid entries of a request; return the rejections of the others."""
        now_ns = self._clock_ns()
        rejections, valid = [], []
        for entry in parse_entries(logs, now_ns, self._index_labels):
            if rejection := check_entry(entry, self._limits, now_ns):
                rejections.append(rejection)
            else:
                valid.append(entry)
        if rejection := self._tenant.over_rate(valid, now_ns):
            return [*rejections, rejection]
        for entry in valid:
            if rejection := self._tenant.rejected(entry, now_ns):
                rejections.append(rejection)
            else:
                self.entries.append(entry)
        return rejections


def _without_names(logs: ExportLogsServiceRequest) -> ExportLogsServiceRequest:
    """Return a copy without the attributes that collector-config/loki.yaml adds."""
    sent = ExportLogsServiceRequest()
    sent.CopyFrom(logs)
    for group in sent.resource_logs:
        records = [record for scope in group.scope_logs for record in scope.log_records]
        holders: list[Resource | LogRecord] = [group.resource, *records]
        for holder in holders:
            kept = [each for each in holder.attributes if each.key not in _ADDED]
            del holder.attributes[:]
            holder.attributes.extend(kept)
    return sent
