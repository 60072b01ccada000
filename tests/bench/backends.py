"""Backends that keep of a kill what a bench needs."""

from __future__ import annotations

import time
from typing import Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

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
    """A backend that keeps the uids of the kills, and counts the ends of victims."""

    def __init__(self) -> None:
        self.kills: set[str] = set()
        self.ends = 0

    def __call__(self, request: Message) -> Reply | None:
        """Receive one request."""
        if isinstance(request, ExportLogsServiceRequest):
            for resource in request.resource_logs:
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        if record.event_name == semconv.EVENT_KILL:
                            values = (
                                a.value.string_value for a in record.attributes if a.key == _UID
                            )
                            self.kills.add(next(values))
                        else:
                            self.ends += 1
        return None
