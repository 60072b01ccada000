"""Logs and spans as a backend has received them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_oom.commands.demo.receiver import Reply

END_EVENTS: Final = frozenset({"oom.victim.exited", "oom.victim.alive"})


@dataclass(frozen=True)
class Received:
    """A log record or span, with its attributes and its resource's as Python values."""

    item: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def uid(self) -> str:
        """Return ``log.record.uid``, which log and span of a kill share."""
        return str(self.attributes["log.record.uid"])


class Backend:
    """A callback of :class:`Receiver` that keeps all records; ``reject`` may reply instead.

    ``ends`` are the log events about the end of a victim, ``logs`` all others.
    """

    def __init__(self, reject: Callable[[], Reply | None] = lambda: None) -> None:
        self._reject = reject
        self._mutex = threading.Lock()
        self.logs: list[Received] = []
        self.ends: list[Received] = []
        self.spans: list[Received] = []
        self.rejected = 0

    def __call__(self, request: Message) -> Reply | None:
        """Receive one request."""
        reply = self._reject()
        with self._mutex:
            if reply:
                self.rejected += 1
                return reply
            if isinstance(request, ExportLogsServiceRequest):
                for record in _logs(request):
                    is_end = record.item.event_name in END_EVENTS
                    (self.ends if is_end else self.logs).append(record)
            elif isinstance(request, ExportTraceServiceRequest):
                self.spans += _spans(request)
        return None

    def wait_for(self, count: int, within_s: float) -> None:
        """Wait for ``count`` logs and as many spans.

        Raises:
            AssertionError: they did not arrive in time.
        """
        deadline = time.monotonic() + within_s
        while min(len(self.logs), len(self.spans)) < count:
            assert time.monotonic() < deadline, f"{len(self.logs)} logs, {len(self.spans)} spans"
            time.sleep(0.02)

    def wait_for_kills(self, pids: Collection[int], within_s: float) -> None:
        """Wait for a log and a span of each of these victims, whatever else arrives.

        Raises:
            AssertionError: they did not arrive in time.
        """
        deadline = time.monotonic() + within_s
        while min(len(filter_kills(records, pids)) for records in (self.logs, self.spans)) < len(
            pids
        ):
            assert time.monotonic() < deadline, f"{len(self.logs)} logs, {len(self.spans)} spans"
            time.sleep(0.02)


def filter_kills(received: Iterable[Received], pids: Collection[int]) -> list[Received]:
    """Return those of these victims: other programs of this host may have kills as well."""
    return [record for record in received if record.attributes.get("process.pid") in pids]


def _logs(request: ExportLogsServiceRequest) -> Iterator[Received]:
    for group in request.resource_logs:
        for scope in group.scope_logs:
            for record in scope.log_records:
                yield Received(
                    record,
                    attributes_to_dict(record.attributes),
                    attributes_to_dict(group.resource.attributes),
                )


def _spans(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for group in request.resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Received(
                    span,
                    attributes_to_dict(span.attributes),
                    attributes_to_dict(group.resource.attributes),
                )


def attributes_to_dict(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Return OTLP attributes as Python values."""

    def decode(value: AnyValue) -> object:
        kind = value.WhichOneof("value")
        if kind == "array_value":
            return [decode(item) for item in value.array_value.values]
        return getattr(value, kind) if kind else None

    return {attribute.key: decode(attribute.value) for attribute in attributes}
