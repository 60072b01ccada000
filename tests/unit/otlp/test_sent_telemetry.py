"""Faults of telemetry against the registry, and the places where a test's telemetry is checked."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import grpc
import pytest
from google.protobuf.message import Message
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.enrich.types import EnrichedKill
from otel_oom.export.signals import SIGNALS
from otel_oom.otlp.encode import encode_log, encode_span
from otel_oom.otlp.json import to_json_line
from tests.testlib.samples.events import DECISION, sample_enriched_kill
from tests.testlib.sent_telemetry import find_faults
from tests.testlib.servers.grpc_server import GrpcServer
from tests.testlib.servers.http_server import HttpServer
from tests.testlib.telemetry_watch import take_faults


def _logs() -> tuple[ExportLogsServiceRequest, LogRecord]:
    request = ExportLogsServiceRequest.FromString(encode_log(sample_enriched_kill()))
    return request, request.resource_logs[0].scope_logs[0].log_records[0]


def _attribute(record: LogRecord, name: str) -> KeyValue:
    return next(attribute for attribute in record.attributes if attribute.key == name)


def _add(record: LogRecord) -> None:
    record.attributes.add(key="oom.colour").value.string_value = "red"


def _add_to_template(record: LogRecord) -> None:
    record.attributes.add(key="oom.host.memory.total").value.double_value = 1.5


def _leave_the_members(record: LogRecord) -> None:
    _attribute(record, "oom.outcome").value.string_value = "eaten"


def _change_the_type(record: LogRecord) -> None:
    _attribute(record, "process.pid").key = "oom.trigger.pid"
    _attribute(record, "oom.trigger.pid").value.string_value = "4711"


def _remove(record: LogRecord) -> None:
    record.attributes.remove(_attribute(record, "oom.capture.hook"))


def _flatten(record: LogRecord) -> None:
    _attribute(record, "oom.request.gfp_flags").value.string_value = "GFP_KERNEL"


def _rename(record: LogRecord) -> None:
    record.event_name = "oom.party"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_add, "event oom.kill: oom.colour: not in the registry"),
        (
            _add_to_template,
            "event oom.kill: oom.host.memory.total: double_value, not template[int]",
        ),
        (_leave_the_members, "event oom.kill: oom.outcome: 'eaten' is no member"),
        (_change_the_type, "event oom.kill: oom.trigger.pid: string_value, not int"),
        (_remove, "event oom.kill: oom.capture.hook: required, and absent"),
        (_flatten, "event oom.kill: oom.request.gfp_flags: no array"),
        (_rename, "event oom.party: not in the registry"),
    ],
)
def test_a_fault_of_a_record_is_found(change: Callable[[LogRecord], None], fault: str) -> None:
    request, record = _logs()
    assert list(find_faults(request)) == []
    change(record)
    assert list(find_faults(request)) == [fault]


def test_a_dropped_attribute_is_not_missing() -> None:
    request, record = _logs()
    _remove(record)
    record.dropped_attributes_count = 1
    assert list(find_faults(request)) == []


def test_a_resource_may_have_more_of_the_conventions() -> None:
    """A detector of the user's adds it."""
    request, _ = _logs()
    resource = request.resource_logs[0].resource
    resource.attributes.add(key="cloud.region").value.string_value = "south-1"
    assert list(find_faults(request)) == []
    resource.attributes.add(key="team").value.string_value = "shop"
    assert list(find_faults(request)) == ["resource: team: not in the registry"]


def test_a_resource_is_an_entity_of_the_event() -> None:
    request, _ = _logs()
    resource = request.resource_logs[0].resource
    kept = [each for each in resource.attributes if each.key == "os.type"]
    del resource.attributes[:]
    resource.attributes.extend(kept)
    none_of = "service, container, k8s.container, k8s.pod, host"
    assert list(find_faults(request)) == [
        "resource: service.name: required, and absent",
        f"event oom.kill: the resource is none of {none_of}",
    ]


def test_telemetry_of_another_scope_is_not_ours() -> None:
    request, record = _logs()
    _add(record)
    request.resource_logs[0].scope_logs[0].scope.name = "shop"
    assert list(find_faults(request)) == []


def test_faults_of_spans_and_their_events_are_found() -> None:
    request = ExportTraceServiceRequest.FromString(encode_span(sample_enriched_kill()))
    (span,) = request.resource_spans[0].scope_spans[0].spans
    span.attributes.add(key="oom.colour").value.string_value = "red"
    span.events[0].attributes.add(key="oom.outcome").value.string_value = "killed"
    assert list(find_faults(request)) == [
        "span oom.kill: oom.colour: not in the registry",
        "event oom.victim.marked: oom.outcome: not in the registry",
    ]


def test_faults_of_metrics_are_found() -> None:
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    for name in ("service.name", "service.version", "service.instance.id"):
        group.resource.attributes.add(key=name).value.string_value = "x"
    for name in ("name", "language", "version"):
        group.resource.attributes.add(key=f"telemetry.sdk.{name}").value.string_value = "x"
    scope = group.scope_metrics.add()
    scope.scope.name = "otel_oom"
    metric = scope.metrics.add(name="oom.kills", unit="1")
    metric.gauge.data_points.add().attributes.add(key="oom.colour").value.string_value = "red"
    scope.metrics.add(name="oom.parties").gauge.data_points.add()
    assert list(find_faults(request)) == [
        "metric oom.kills: gauge in 1, not counter in {kill}",
        "metric oom.kills: oom.colour: not in the registry",
        "metric oom.kills: oom.outcome: required, and absent",
        "metric oom.parties: not in the registry",
    ]


@contextmanager
def _receiver() -> Iterator[Callable[[Message], object]]:
    with Receiver(lambda _: None) as receiver:
        yield lambda request: _post(receiver.url, request.SerializeToString())


@contextmanager
def _http_server() -> Iterator[Callable[[Message], object]]:
    with HttpServer() as server:
        yield lambda request: _post(server.url, request.SerializeToString())


@contextmanager
def _json_server() -> Iterator[Callable[[Message], object]]:
    with HttpServer() as server:
        yield lambda request: _post(
            server.url, to_json_line(request).encode(), {"Content-Type": "application/json"}
        )


@contextmanager
def _grpc_server() -> Iterator[Callable[[Message], object]]:
    with GrpcServer() as server, grpc.insecure_channel(server.address) as channel:
        export = channel.unary_unary(SIGNALS["logs"].method)
        yield lambda request: export(request.SerializeToString(), timeout=30)


def _post(url: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    request = urllib.request.Request(f"{url}/v1/logs", body, headers or {})  # noqa: S310  loopback
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310  likewise


@pytest.mark.parametrize("server", [_receiver, _http_server, _json_server, _grpc_server])
def test_what_servers_receive_is_checked(
    server: Callable[[], AbstractContextManager[Callable[[Message], object]]],
) -> None:
    request, record = _logs()
    _add(record)
    with server() as send:
        send(request)
    assert take_faults() == ["event oom.kill: oom.colour: not in the registry"]


@pytest.mark.parametrize(
    ("encode", "title"), [(encode_log, "event oom.kill"), (encode_span, "span oom.kill")]
)
def test_what_is_built_is_checked(encode: Callable[[EnrichedKill], bytes], title: str) -> None:
    encode(sample_enriched_kill(decision=replace(DECISION, constraint="colour")))
    assert take_faults() == [f"{title}: oom.decision.constraint: 'colour' is no member"]
