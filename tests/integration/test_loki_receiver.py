"""The stand-in for Loki rejects what Loki's documentation says that Loki rejects."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.request import Request, urlopen

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tests.testlib.servers.loki_entry import INDEX_LABELS
from tests.testlib.servers.loki_limits import Limits
from tests.testlib.servers.loki_receiver import PATH, LokiReceiver
from tests.testlib.servers.web import HttpReply, http_post

HOUR_S = 3600
NOW_S = 1_800_000_000
MB = 1 << 20
SHOP = {"service.name": "shop"}


class Clock:
    """A clock that a test sets."""

    now_s: int = NOW_S

    def __call__(self) -> int:
        """Return the time in nanoseconds."""
        return self.now_s * 10**9


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loki(clock: Clock) -> Iterator[LokiReceiver]:
    with LokiReceiver(clock_ns=clock) as receiver:
        yield receiver


def values(attributes: Mapping[str, object]) -> list[KeyValue]:
    return [
        KeyValue(key=name, value=AnyValue(string_value=str(v))) for name, v in attributes.items()
    ]


def send(
    loki: LokiReceiver,
    *records: LogRecord,
    resource: Mapping[str, object] = SHOP,
    path: str = PATH,
) -> HttpReply:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add(resource=Resource(attributes=values(resource)))
    group.scope_logs.add(log_records=records)
    return http_post(f"{loki.url}{path}", request.SerializeToString())


def record(
    time_s: int = NOW_S, body: str = "killed", attributes: Mapping[str, object] | None = None
) -> LogRecord:
    return LogRecord(
        time_unix_nano=time_s * 10**9,
        body=AnyValue(string_value=body),
        attributes=values(attributes or {}),
    )


def assert_rejected(loki: LokiReceiver, reply: HttpReply, status: HTTPStatus, reason: str) -> None:
    assert reply.status == status
    assert [rejection.reason for rejection in loki.rejections] == [reason]
    assert reply.body.decode() == loki.rejections[0].text


def test_default_resource_attributes_are_labels_and_all_else_is_metadata(
    loki: LokiReceiver,
) -> None:
    attributes = [
        *values({"oom.victim.comm": "java"}),
        KeyValue(key="process.pid", value=AnyValue(int_value=42)),
        KeyValue(key="oom.victim.exited", value=AnyValue(bool_value=True)),
        KeyValue(key="load", value=AnyValue(double_value=-0.000097)),
        KeyValue(key="whole", value=AnyValue(double_value=0.0)),
        KeyValue(
            key="tags",
            value=AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="a")])),
        ),
        KeyValue(
            key="limit",
            value=AnyValue(kvlist_value=KeyValueList(values=values({"memory.max": 1}))),
        ),
    ]
    sent = LogRecord(
        time_unix_nano=NOW_S * 10**9,
        observed_time_unix_nano=7,
        severity_number=SeverityNumber.SEVERITY_NUMBER_FATAL,
        body=AnyValue(string_value="killed"),
        trace_id=bytes(16),
        event_name="oom.kill",
        attributes=attributes,
    )
    resource = {**SHOP, "k8s.pod.name": "shop-1", "host.name": "node-1", "container.id": "abc"}
    assert send(loki, sent, resource=resource).status == HTTPStatus.NO_CONTENT
    (entry,) = loki.entries
    assert (entry.time, entry.line) == (NOW_S * 10**9, "killed")
    assert entry.labels == {"service_name": "shop", "k8s_pod_name": "shop-1"}
    assert dict(entry.metadata) == {
        "host_name": "node-1",
        "container_id": "abc",
        "observed_timestamp": "7",
        "severity_number": "21",
        "trace_id": "0" * 32,
        "event_name": "oom.kill",
        "detected_level": "fatal",
        "oom_victim_comm": "java",
        "process_pid": "42",
        "oom_victim_exited": "true",
        "load": "-0.000097",
        "whole": "0",
        "tags": '["a"]',
        "limit_memory_max": "1",
    }


def test_a_record_without_a_service_has_the_name_for_none(loki: LokiReceiver) -> None:
    send(loki, record(), resource={})
    assert loki.entries[0].labels == {"service_name": "unknown_service"}


def test_gzip_is_accepted(loki: LokiReceiver) -> None:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add(log_records=[record()])
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    body = gzip.compress(request.SerializeToString())
    with urlopen(Request(f"{loki.url}{PATH}", body, headers)) as response:  # noqa: S310  loopback
        assert response.status == HTTPStatus.NO_CONTENT
    assert len(loki.entries) == 1


@pytest.mark.parametrize("path", ["/v1/logs", "/otlp", "/loki/api/v1/push"])
def test_otlp_has_one_path(loki: LokiReceiver, path: str) -> None:
    assert send(loki, record(), path=path).status == HTTPStatus.NOT_FOUND


def test_only_protobuf_is_decoded(loki: LokiReceiver) -> None:
    assert http_post(f"{loki.url}{PATH}", {}).status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert http_post(f"{loki.url}{PATH}", b"\xff").status == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("reason", "accepted", "rejected"),
    [
        (
            "greater_than_max_sample_age",
            {"time_s": NOW_S - 168 * HOUR_S},
            {"time_s": NOW_S - 168 * HOUR_S - 1},
        ),
        ("too_far_in_future", {"time_s": NOW_S + 600}, {"time_s": NOW_S + 601}),
        ("line_too_long", {"body": "é" * (128 << 10)}, {"body": "é" * (128 << 10) + "x"}),
        (
            "structured_metadata_too_large",
            {"attributes": {"name": "x" * ((64 << 10) - 4 - len("detected_levelunknown"))}},
            {"attributes": {"name": "x" * ((64 << 10) - 3 - len("detected_levelunknown"))}},
        ),
        (
            "structured_metadata_too_many",
            {"attributes": dict.fromkeys(map(str, range(127)), "x")},
            {"attributes": dict.fromkeys(map(str, range(128)), "x")},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_record_is_rejected_for_good(
    loki: LokiReceiver, reason: str, accepted: dict[str, Any], rejected: dict[str, Any]
) -> None:
    assert send(loki, record(**accepted)).status == HTTPStatus.NO_CONTENT
    reply = send(loki, record(**rejected))
    assert_rejected(loki, reply, HTTPStatus.BAD_REQUEST, reason)
    assert len(loki.entries) == 1


def test_the_text_of_an_old_record_is_the_documented_one(loki: LokiReceiver) -> None:
    reply = send(loki, record(NOW_S - 200 * HOUR_S))
    assert reply.body.decode() == (
        "entry for stream '{service_name=\"shop\"}' has timestamp too old: 2027-01-07T00:00:00Z, "
        "oldest acceptable timestamp is: 2027-01-08T08:00:00Z"
    )


def test_fifteen_labels_are_accepted_and_sixteen_are_not(loki: LokiReceiver) -> None:
    names = sorted(INDEX_LABELS)
    assert send(loki, record(), resource=dict.fromkeys(names[-15:], "x")).status == 204
    reply = send(loki, record(), resource=dict.fromkeys(names[-16:], "x"))
    assert_rejected(loki, reply, HTTPStatus.BAD_REQUEST, "max_label_names_per_series")


def test_a_label_has_2048_bytes_at_most(loki: LokiReceiver) -> None:
    assert send(loki, record(), resource={"service.name": "é" * 1024}).status == 204
    reply = send(loki, record(), resource={"service.name": "é" * 1024 + "x"})
    assert_rejected(loki, reply, HTTPStatus.BAD_REQUEST, "label_value_too_long")


def test_a_labels_name_has_a_limit(clock: Clock) -> None:
    """No default label comes near 1,024 bytes: a lower limit shows that it is enforced."""
    assert Limits().max_label_name_length == 1024
    with LokiReceiver(Limits(max_label_name_length=15), clock) as loki:
        assert send(loki, record()).status == HTTPStatus.NO_CONTENT
        reply = send(loki, record(), resource={**SHOP, "service.namespace": "x"})
        assert_rejected(loki, reply, HTTPStatus.BAD_REQUEST, "label_name_too_long")


def test_valid_records_of_a_rejected_request_are_stored(loki: LokiReceiver) -> None:
    reply = send(loki, record(body="valid"), record(NOW_S - 200 * HOUR_S))
    assert_rejected(loki, reply, HTTPStatus.BAD_REQUEST, "greater_than_max_sample_age")
    assert [entry.line for entry in loki.entries] == ["valid"]


def test_a_record_an_hour_behind_its_stream_is_rejected(loki: LokiReceiver) -> None:
    assert send(loki, record()).status == HTTPStatus.NO_CONTENT
    assert send(loki, record(NOW_S - HOUR_S)).status == HTTPStatus.NO_CONTENT
    late = record(NOW_S - HOUR_S - 1)
    assert send(loki, late, resource={"service.name": "other"}).status == HTTPStatus.NO_CONTENT
    reply = send(loki, late)
    assert_rejected(loki, reply, HTTPStatus.BAD_REQUEST, "too_far_behind")


def test_more_streams_than_allowed_are_a_matter_of_time(clock: Clock) -> None:
    """A stream is active for half an hour after its last entry."""
    assert Limits().max_global_streams_per_user == 5000
    with LokiReceiver(Limits(max_global_streams_per_user=2), clock) as loki:
        for service in ("a", "b", "a"):
            reply = send(loki, record(), resource={"service.name": service})
            assert reply.status == HTTPStatus.NO_CONTENT
        reply = send(loki, record(), resource={"service.name": "c"})
        assert_rejected(loki, reply, HTTPStatus.TOO_MANY_REQUESTS, "stream_limit")
        clock.now_s += 30 * 60 + 1
        assert send(loki, record(), resource={"service.name": "c"}).status == 204


def burst(megabytes: int, **attributes: object) -> list[LogRecord]:
    return [record(body="x" * (MB // 8), attributes=attributes) for _ in range(8 * megabytes)]


def test_the_tenants_rate_is_limited(loki: LokiReceiver, clock: Clock) -> None:
    """6 MB at once and 4 MB a second, with structured metadata; nothing is stored beyond that."""
    assert send(loki, *burst(5)).status == HTTPStatus.NO_CONTENT
    stored = len(loki.entries)
    reply = send(loki, *burst(2))
    assert_rejected(loki, reply, HTTPStatus.TOO_MANY_REQUESTS, "rate_limited")
    assert len(loki.entries) == stored
    clock.now_s += 1
    assert send(loki, *burst(2)).status == HTTPStatus.NO_CONTENT


def test_a_streams_rate_is_limited(clock: Clock) -> None:
    limits = Limits(ingestion_burst_size_mb=100)
    with LokiReceiver(limits, clock) as loki:
        assert send(loki, *burst(14)).status == HTTPStatus.NO_CONTENT
        reply = send(loki, *burst(2))
        assert reply.status == HTTPStatus.TOO_MANY_REQUESTS
        assert {rejection.reason for rejection in loki.rejections} == {"per_stream_rate_limit"}
        assert send(loki, *burst(2), resource={"service.name": "other"}).status == 204
