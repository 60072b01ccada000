"""A stand-in for Loki that enforces what Loki's documentation says of OTLP.

Loki's licence keeps it out of these tests. This receiver has its path, its mapping and its
limits, and no query language: a test reads the stored entries.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Self

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.testlib.servers.http_server import HttpServer, Request, http_response
from tests.testlib.servers.loki_entry import Entry, parse_entries
from tests.testlib.servers.loki_limits import Limits, Rejection, check_entry
from tests.testlib.servers.loki_tenant import Tenant

PATH: Final = "/otlp/v1/logs"


class LokiReceiver:
    """Listens on loopback in its context, and keeps what Loki would store."""

    def __init__(
        self, limits: Limits | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """Begin empty, with the documented limits by default; ``clock_ns`` returns Unix time."""
        self.entries: list[Entry] = []
        self.rejections: list[Rejection] = []
        self._limits = limits or Limits()
        self._tenant = Tenant(self._limits)
        self._clock_ns = clock_ns
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
        for entry in parse_entries(logs, now_ns):
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
