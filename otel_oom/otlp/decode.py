"""Decoding of an event's OTLP into plain values, as a backend would show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Value = str | int | float | bool | tuple[str, ...] | tuple[int, ...]


class Attributes(Struct, frozen=True):
    """Attributes with one accessor for each type; it returns ``None`` for another type."""

    values: Mapping[str, Value] = {}

    def text(self, name: str) -> str | None:
        """Return a string, or an array of strings joined by commas."""
        value = self.values.get(name)
        if isinstance(value, tuple):
            return ", ".join(map(str, value))
        return value if isinstance(value, str) else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return an array of strings; of a string, as earlier versions sent it, the lines."""
        value = self.values.get(name)
        if isinstance(value, tuple):
            return tuple(map(str, value))
        return tuple(value.splitlines()) if isinstance(value, str) else ()

    def integer(self, name: str) -> int | None:
        """Return an integer."""
        value = self.values.get(name)
        return value if isinstance(value, int) else None

    def integers(self, name: str) -> tuple[int, ...]:
        """Return an array of integers; empty without one."""
        value = self.values.get(name)
        return (
            tuple(item for item in value if isinstance(item, int))
            if isinstance(value, tuple)
            else ()
        )

    def number(self, name: str) -> float | None:
        """Return an integer or a double."""
        value = self.values.get(name)
        return float(value) if isinstance(value, int | float) else None

    def numbers(self, prefix: str) -> dict[str, float]:
        """Return the numbers below ``prefix``, by the rest of their names."""
        start = f"{prefix}."
        found = {
            name.removeprefix(start): self.number(name)
            for name in self.values
            if name.startswith(start)
        }
        return {key: value for key, value in found.items() if value is not None}


class SpanEvent(Struct, frozen=True):
    """A span event at ``unix_ns``."""

    name: str
    unix_ns: int
    attributes: Attributes


class DecodedEvent(Struct, frozen=True):
    """A log event and its span.

    Times are in nanoseconds of Unix time; ``stored_unix_ns`` is when it was stored. ``attributes``
    are those of log event and span.
    """

    name: str
    unix_ns: int
    stored_unix_ns: int
    body: str
    attributes: Attributes
    resource: Attributes
    trace_id: str
    span_id: str
    span_events: tuple[SpanEvent, ...] = ()

    @property
    def uid(self) -> str:
        """The ``log.record.uid``."""
        return self.attributes.text("log.record.uid") or ""


def decode_otlp(
    logs: ExportLogsServiceRequest, traces: ExportTraceServiceRequest | None
) -> DecodedEvent:
    """Decode the one event of ``logs`` and its span. Raises ValueError without a log event."""
    for resource_logs in logs.resource_logs:
        for record in resource_logs.scope_logs[0].log_records:
            span = traces.resource_spans[0].scope_spans[0].spans[0] if traces else Span()
            return DecodedEvent(
                name=record.event_name,
                unix_ns=record.time_unix_nano,
                stored_unix_ns=record.observed_time_unix_nano,
                body=record.body.string_value,
                attributes=Attributes(_values(span.attributes) | _values(record.attributes)),
                resource=Attributes(_values(resource_logs.resource.attributes)),
                trace_id=record.trace_id.hex(),
                span_id=record.span_id.hex(),
                span_events=tuple(
                    SpanEvent(
                        event.name, event.time_unix_nano, Attributes(_values(event.attributes))
                    )
                    for event in span.events
                ),
            )
    raise ValueError("the request has no log event")


def _values(attributes: Iterable[KeyValue]) -> dict[str, Value]:
    values = ((attribute.key, _value(attribute.value)) for attribute in attributes)
    return {key: value for key, value in values if value is not None}


def _value(value: AnyValue) -> Value | None:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        items = value.array_value.values
        if items and items[0].WhichOneof("value") == "int_value":
            return tuple(item.int_value for item in items)
        return tuple(item.string_value for item in items)
    if kind in {"string_value", "int_value", "double_value", "bool_value"}:
        plain: Value = getattr(value, kind)
        return plain
    return None
