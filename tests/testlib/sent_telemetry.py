"""Faults of sent telemetry: what the registry does not allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any, Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.testlib.registry import Attribute, convention_attributes, load_registry

_SCOPE: Final = "otel_oom"
_VICTIM: Final = "resource.oom"
_AGENT: Final = "resource.otel_oom"
_ON_LOGS: Final = {"conditionally_required": "On the log event."}
"""The level of what only the log event has, if a span event has the same name."""
_KINDS: Final = {
    "string": "string_value",
    "int": "int_value",
    "double": "double_value",
    "boolean": "bool_value",
}


def find_faults(request: Message) -> Iterator[str]:
    """Yield each fault of a request's telemetry of our scope."""
    match request:
        case ExportLogsServiceRequest(resource_logs=groups):
            for resource, record in _items(groups, "scope_logs", "log_records"):
                yield from _resource_faults(_VICTIM, resource)
                yield from _item_faults("event", record.event_name, record, resource)
        case ExportTraceServiceRequest(resource_spans=groups):
            for resource, span in _items(groups, "scope_spans", "spans"):
                yield from _resource_faults(_VICTIM, resource)
                yield from _item_faults("span", span.name, span, resource)
                for event in span.events:
                    yield from _item_faults("event", event.name, event, resource)
        case ExportMetricsServiceRequest(resource_metrics=groups):
            for resource, metric in _items(groups, "scope_metrics", "metrics"):
                yield from _resource_faults(_AGENT, resource)
                yield from _metric_faults(metric)


def _items(groups: Iterable[Any], scopes: str, items: str) -> Iterator[tuple[Any, Any]]:
    for group in groups:
        for scope in getattr(group, scopes):
            if scope.scope.name == _SCOPE:
                yield from ((group.resource, item) for item in getattr(scope, items))


def _resource_faults(group_id: str, resource: Any) -> Iterator[str]:  # noqa: ANN401  protobuf
    for fault in _attribute_faults(group_id, resource.attributes):
        # Detectors of the user's own add other attributes of the conventions.
        name = fault.partition(":")[0]
        if name not in convention_attributes(name.partition(".")[0]):
            yield f"resource: {fault}"
    yield from (f"resource: {fault}" for fault in _missing(group_id, resource.attributes))


def _item_faults(kind: str, name: str, item: Any, resource: Any) -> Iterator[str]:  # noqa: ANN401  protobuf
    title, group_id = f"{kind} {name}", f"{kind}.{name}"
    if group_id not in load_registry().groups:
        yield f"{title}: not in the registry"
        return
    faults = list(_attribute_faults(group_id, item.attributes))
    if not item.dropped_attributes_count:
        faults += _missing(group_id, item.attributes, is_log=isinstance(item, LogRecord))
    entities = load_registry().groups[group_id].get("entity_associations", ())
    prefixes = tuple(f"{entity}." for entity in entities)
    if prefixes and not any(each.key.startswith(prefixes) for each in resource.attributes):
        faults.append(f"the resource is none of {', '.join(entities)}")
    yield from (f"{title}: {fault}" for fault in faults)


def _metric_faults(metric: Any) -> Iterator[str]:  # noqa: ANN401  protobuf
    registry, title = load_registry(), f"metric {metric.name}"
    kind = metric.WhichOneof("data")
    points = getattr(metric, kind).data_points
    if metric.name in registry.imported_metrics:
        for name in {attribute.key for point in points for attribute in point.attributes}:
            if name not in convention_attributes(name.partition(".")[0]):
                yield f"{title}: {name}: not in the conventions"
        return
    group = registry.groups.get(f"metric.{metric.name}")
    if group is None:
        yield f"{title}: not in the registry"
        return
    instrument = kind
    if kind == "sum":
        instrument = "counter" if metric.sum.is_monotonic else "updowncounter"
    if (metric.unit, instrument) != (group["unit"], group["instrument"]):
        declared = f"{group['instrument']} in {group['unit']}"
        yield f"{title}: {instrument} in {metric.unit}, not {declared}"
    for point in points:
        yield from (f"{title}: {f}" for f in _attribute_faults(group["id"], point.attributes))
        yield from (f"{title}: {f}" for f in _missing(group["id"], point.attributes))


def _missing(group_id: str, attributes: Iterable[KeyValue], *, is_log: bool = False) -> list[str]:
    levels = ("required", _ON_LOGS) if is_log else ("required",)
    required = {name for name, level in _uses(group_id).items() if level in levels}
    absent = required.difference(attribute.key for attribute in attributes)
    return [f"{name}: required, and absent" for name in sorted(absent)]


def _attribute_faults(group_id: str, attributes: Iterable[KeyValue]) -> Iterator[str]:
    for attribute in attributes:
        declared = _declared_name(group_id, attribute.key)
        if declared is None:
            yield f"{attribute.key}: not in the registry"
        elif definition := load_registry().attributes.get(declared):
            yield from _value_faults(definition, attribute)


def _value_faults(definition: Attribute, attribute: KeyValue) -> Iterator[str]:
    type_ = definition.type.removeprefix("template[").removesuffix("]").removesuffix("[")
    is_array = definition.type.removesuffix("]").endswith("[")
    values = attribute.value.array_value.values if is_array else [attribute.value]
    if is_array and not attribute.value.HasField("array_value"):
        yield f"{attribute.key}: no array"
    for value in values:
        if (sent := value.WhichOneof("value")) != _KINDS[type_]:
            yield f"{attribute.key}: {sent}, not {definition.type}"
        elif definition.members and value.string_value not in definition.members:
            yield f"{attribute.key}: {value.string_value!r} is no member"


@cache
def _uses(group_id: str) -> dict[str, Any]:
    return load_registry().uses(group_id)


@lru_cache(4096)
def _declared_name(group_id: str, name: str) -> str | None:
    """Return the name in the registry: the attribute's own, or that of its template."""
    if name in _uses(group_id):
        return name
    prefixes = (name[:end] for end, letter in enumerate(name) if letter == ".")
    return next((prefix for prefix in prefixes if prefix in _uses(group_id)), None)
