"""Log entries as Loki stores OTLP log records, by its documentation.

Source: "Ingesting logs to Loki using OpenTelemetry Collector", format considerations.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.testlib.repository import REPOSITORY

INDEX_LABELS: Final = frozenset(
    {
        *("service.name", "service.namespace", "service.instance.id"),
        *("deployment.environment", "deployment.environment.name"),
        *("cloud.region", "cloud.availability_zone"),
        *("k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name"),
        *("container.name", "k8s.replicaset.name", "k8s.deployment.name"),
        *("k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name", "k8s.job.name"),
    }
)
"""``distributor.otlp_config.default_resource_attributes_as_index_labels``: the default."""
DOCUMENTED_CONFIG: Final = REPOSITORY / "collector-config/loki.yaml"
"""The file whose comment has the lines that Loki's own configuration needs."""

_LEVELS: Final = ("trace", "debug", "info", "warn", "error", "fatal")
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_]")
_MATCHES: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "=": lambda label, value: label == value,
    "!=": lambda label, value: label != value,
    "=~": lambda label, value: re.fullmatch(value, label) is not None,
    "!~": lambda label, value: re.fullmatch(value, label) is None,
}

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Entry:
    """A log entry: its stream is the set of its labels."""

    time: int
    """Unix time in nanoseconds."""
    line: str
    labels: Mapping[str, str]
    """Index labels."""
    metadata: tuple[tuple[str, str], ...]
    """Structured metadata."""

    @property
    def fields(self) -> dict[str, str]:
        """Labels and structured metadata together, as a query returns them."""
        return {**dict(self.metadata), **self.labels}

    @property
    def metadata_bytes(self) -> int:
        """The size of the structured metadata."""
        return sum(len(name.encode()) + len(value.encode()) for name, value in self.metadata)

    @property
    def size(self) -> int:
        """The size that the rate limits count: the line and its structured metadata."""
        return len(self.line.encode()) + self.metadata_bytes


def read_documented_labels() -> frozenset[str]:
    """Return the index labels of a Loki with the lines in the comment of `loki.yaml`."""
    file = DOCUMENTED_CONFIG.read_text(encoding="utf-8")
    comment = re.search(r"(?m)^#     limits_config:\n(?:#      .*\n)+", file)
    assert comment is not None
    return read_index_labels(re.sub(r"(?m)^#     ", "", comment[0]))


def read_index_labels(config: str) -> frozenset[str]:
    """Return the index labels of a Loki with this configuration."""
    resource = yaml.safe_load(config)["limits_config"]["otlp_config"]["resource_attributes"]
    rules = resource["attributes_config"]
    named = (rule["attributes"] for rule in rules if rule["action"] == "index_label")
    return INDEX_LABELS.union(*named)


def parse_entries(
    request: ExportLogsServiceRequest,
    received_ns: int,
    index_labels: Container[str] = INDEX_LABELS,
) -> Iterator[Entry]:
    """Yield the entries of a request that was received at this Unix time."""
    for group in request.resource_logs:
        resource = [pair for pair in group.resource.attributes if pair.key not in index_labels]
        labels = dict(_pairs(pair for pair in group.resource.attributes if pair not in resource))
        # ``limits_config.discover_service_name`` ends with this name.
        labels.setdefault("service_name", "unknown_service")
        for scoped in group.scope_logs:
            around = _pairs(resource) + _of_scope(scoped.scope)
            for record in scoped.log_records:
                time = record.time_unix_nano or record.observed_time_unix_nano or received_ns
                metadata = (*around, *_of_record(record), *_pairs(record.attributes))
                yield Entry(time, _text(record.body), labels, metadata)


def matches_selector(labels: Mapping[str, str], selector: str) -> bool:
    """Return True if a stream with these labels is one that a LogQL stream selector reads.

    A label that the stream does not have counts as empty.
    """
    matchers = re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")', selector)
    assert matchers, selector
    return all(
        _MATCHES[operator](labels.get(name, ""), json.loads(value))
        for name, operator, value in matchers
    )


def _of_scope(scope: InstrumentationScope) -> Pairs:
    own = {
        "scope_name": scope.name,
        "scope_version": scope.version,
        "scope_dropped_attributes_count": scope.dropped_attributes_count,
    }
    return [*_set(own), *_pairs(scope.attributes)]


def _of_record(record: LogRecord) -> Pairs:
    """Return all fields of a record except its body, time and attributes."""
    number = record.severity_number
    return _set(
        {
            "observed_timestamp": record.observed_time_unix_nano,
            "severity_number": number,
            "severity_text": record.severity_text,
            "trace_id": record.trace_id.hex(),
            "span_id": record.span_id.hex(),
            "flags": record.flags,
            "dropped_attributes_count": record.dropped_attributes_count,
            "event_name": record.event_name,
            # ``limits_config.discover_log_levels``.
            "detected_level": _LEVELS[(number - 1) // 4] if number else "unknown",
        }
    )


def _set(values: Mapping[str, object]) -> Pairs:
    return [(name, str(value)) for name, value in values.items() if value]


def _pairs(attributes: Iterable[KeyValue], prefix: str = "") -> Pairs:
    """Return attributes by names that Loki allows; nested ones are joined by ``_``."""
    pairs: Pairs = []
    for attribute in attributes:
        name = prefix + _NOT_IN_NAMES.sub("_", attribute.key)
        if attribute.value.HasField("kvlist_value"):
            pairs += _pairs(attribute.value.kvlist_value.values, f"{name}_")
        else:
            pairs.append((name, _text(attribute.value)))
    return pairs


def _text(value: AnyValue) -> str:
    """Return a value as the Collector's ``AsString`` does."""
    if value.HasField("double_value"):
        return _number(value.double_value)
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, separators=(",", ":"))


def _number(value: float) -> str:
    """Return a number as Go's JSON has it: without an exponent from 1e-6 to 1e21."""
    if value and not 1e-6 <= abs(value) < 1e21:
        return repr(value)
    return f"{Decimal(repr(value)):f}".removesuffix(".0")


def _plain(value: AnyValue) -> object:
    match value.WhichOneof("value"):
        case None:
            return ""
        case "array_value":
            return [_plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _plain(item.value) for item in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case kind:
            plain: object = getattr(value, kind)
            return plain
