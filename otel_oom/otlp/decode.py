"""An event out of its OTLP, as plain values: what a backend would show of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes by their names; each method is for one type, ``None`` for what is not there."""

    all: Mapping[str, Value] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """A text, or a list of them as one."""
        value = self.all.get(name)
        if isinstance(value, tuple):
            return ", ".join(value)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> int | None:
        """A whole number."""
        value = self.all.get(name)
        return value if isinstance(value, int) else None

    def real(self, name: str) -> float | None:
        """A number, whole or not."""
        value = self.all.get(name)
        return float(value) if isinstance(value, int | float) else None

    def keyed(self, name: str) -> dict[str, float]:
        """The numbers whose names begin with ``name`` and a dot, by the rest of it."""
        start = f"{name}."
        found = {
            key.removeprefix(start): self.real(key) for key in self.all if key.startswith(start)
        }
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """An event of the span; ``unix_ns`` is in nanoseconds."""

    name: str
    unix_ns: int
    values: Attributes


@dataclass(frozen=True, slots=True)
class DecodedEvent:
    """A log event and its span.

    Times are in nanoseconds of Unix time; ``stored_unix_ns`` is when it was on the disk. ``values``
    are the attributes of both, ``resource`` what it is about, ``stages`` the span's events.
    """

    name: str
    unix_ns: int
    stored_unix_ns: int
    sentence: str
    values: Attributes
    resource: Attributes
    trace_id: str
    span_id: str
    stages: tuple[SpanEvent, ...] = ()

    @property
    def uid(self) -> str:
        """Its ``log.record.uid``."""
        return self.values.text("log.record.uid") or ""


def record_of(
    log: ExportLogsServiceRequest, span: ExportTraceServiceRequest | None
) -> DecodedEvent:
    """The one event of ``log``, and its span.

    Raises:
        ValueError: there is none.
    """
    for resource_logs in log.resource_logs:
        for record in resource_logs.scope_logs[0].log_records:
            values = _values(record.attributes)
            stages: tuple[SpanEvent, ...] = ()
            if span is not None:
                own = span.resource_spans[0].scope_spans[0].spans[0]
                values = {**_values(own.attributes), **values}
                stages = tuple(
                    SpanEvent(
                        stage.name, stage.time_unix_nano, Attributes(_values(stage.attributes))
                    )
                    for stage in own.events
                )
            return DecodedEvent(
                name=record.event_name,
                unix_ns=record.time_unix_nano,
                stored_unix_ns=record.observed_time_unix_nano,
                sentence=record.body.string_value,
                values=Attributes(values),
                resource=Attributes(_values(resource_logs.resource.attributes)),
                trace_id=record.trace_id.hex(),
                span_id=record.span_id.hex(),
                stages=stages,
            )
    raise ValueError("no log event in it")


def _values(attributes: Iterable[KeyValue]) -> dict[str, Value]:
    values = ((one.key, _value(one.value)) for one in attributes)
    return {key: value for key, value in values if value is not None}


def _value(value: AnyValue) -> Value | None:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(item.string_value for item in value.array_value.values)
    if kind in {"string_value", "int_value", "double_value", "bool_value"}:
        found: Value = getattr(value, kind)
        return found
    return None
