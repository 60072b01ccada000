"""Backends that keep of a kill what a bench needs."""

from __future__ import annotations

import time
from typing import Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_oom.commands.demo.receiver import Reply
from otel_oom.otlp import semconv
from tests.testlib.servers.backend import Backend

_NS_PER_MS: Final = 1e6
_UID: Final = "log.record.uid"


class LatencyBackend(Backend):
    """A backend with the time from the mark of each process to the arrival of its log."""

    def __init__(self) -> None:
        super().__init__()
        self.latencies_ms: dict[int, float] = {}

    def __call__(self, request: Message) -> Reply | None:
        now, before = time.time_ns(), len(self.logs)
        reply = super().__call__(request)
        for log in self.logs[before:]:
            latency_ms = (now - log.item.time_unix_nano) / _NS_PER_MS
            self.latencies_ms.setdefault(log.attributes.get("process.pid", 0), latency_ms)
        return reply


class CountingBackend:
    """A backend that keeps the uids of the kills, and counts what it gets beside them."""

    def __init__(self) -> None:
        self.kills: set[str] = set()
        self.last_kill_s = 0.0
        """When the last new kill came, by the monotonic clock."""
        self.missed: dict[str, int] = {}
        """Kills that are reported by number only, by the uid of the report."""
        self.ends = 0
        """All other events: the ends of victims."""

    @property
    def all_kills(self) -> int:
        """The number of kills that are reported in either way."""
        return len(self.kills) + sum(self.missed.values())

    def __call__(self, request: Message) -> Reply | None:
        """Receive one request."""
        if isinstance(request, ExportLogsServiceRequest):
            for resource in request.resource_logs:
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        self._count(record)
        return None

    def _count(self, record: LogRecord) -> None:
        values = {attribute.key: attribute.value for attribute in record.attributes}
        uid = values[_UID].string_value
        if record.event_name == semconv.EVENT_MISSED:
            self.missed[uid] = values[semconv.MISSED_COUNT].int_value
        elif record.event_name != semconv.EVENT_KILL:
            self.ends += 1
        elif uid not in self.kills:
            self.kills.add(uid)
            self.last_kill_s = time.monotonic()
