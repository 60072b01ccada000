"""OTLP requests as the SDK's objects: the official encoder gives the same request back."""

from __future__ import annotations

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2 as trace
from opentelemetry.trace import SpanKind, StatusCode

from otel_oom.config.limits import TelemetryLimits, read_limits
from otel_oom.enrich.event import enrich_no_victim, enrich_panic
from otel_oom.enrich.types import EnrichedEvent
from otel_oom.otlp.encode import encode_log, encode_span
from otel_oom.otlp.sdk_objects import decode_log_records, decode_spans
from tests.testlib.samples.events import HOST, KILL, NO_VICTIM, PANIC, sample_enriched_kill

EVENTS = (
    sample_enriched_kill(),
    sample_enriched_kill(exit_=None),
    enrich_no_victim(NO_VICTIM, 7, HOST),
    enrich_panic(PANIC, 7, HOST),
)
SHORT = read_limits(
    {
        "OTEL_ATTRIBUTE_COUNT_LIMIT": "3",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "1",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
    },
    pytest.fail,
)


def any_pairs() -> list[KeyValue]:
    """Return an attribute of each type that OTLP has."""
    pairs = [KeyValue(key=f"key.{number}") for number in range(8)]
    text, true, number, real, raw, several, mapping, empty = (pair.value for pair in pairs)
    empty.SetInParent()
    text.string_value = "é"
    true.bool_value = True
    number.int_value = -(1 << 40)
    real.double_value = 0.5
    raw.bytes_value = b"\xff\x00"
    for each in ("a", "b"):
        several.array_value.values.add(string_value=each)
    mapping.kvlist_value.values.add(key="inner").value.int_value = 7
    return pairs


@pytest.mark.parametrize("limits", [TelemetryLimits(), SHORT])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event.kind)
def test_a_log_record_is_encoded_as_it_was(event: EnrichedEvent, limits: TelemetryLimits) -> None:
    """With the resource, the scope, and the counts of what a limit dropped."""
    body = encode_log(event, limits)
    request = ExportLogsServiceRequest.FromString(body)
    assert encode_logs(decode_log_records(body)) == request


@pytest.mark.parametrize("limits", [TelemetryLimits(), SHORT])
@pytest.mark.parametrize("event", EVENTS[:2])
def test_a_span_is_encoded_as_it_was(event: EnrichedEvent, limits: TelemetryLimits) -> None:
    """With its span events, parent, status, and the counts of what a limit dropped."""
    body = encode_span(event, limits)
    assert body is not None
    request = ExportTraceServiceRequest.FromString(body)
    assert encode_spans(decode_spans(body)) == request


def test_the_fields_of_a_log_record_have_the_types_of_the_sdk() -> None:
    (readable,) = decode_log_records(encode_log(sample_enriched_kill()))
    record = readable.log_record
    assert record.event_name == "oom.kill"
    assert record.timestamp == KILL.time_unix_ns
    assert record.severity_number is SeverityNumber.FATAL
    assert record.severity_text is None
    assert (record.trace_id, record.span_id) == (KILL.trace_id, KILL.span_id)
    assert record.trace_flags is not None
    assert record.trace_flags.sampled
    assert record.attributes is not None
    assert record.attributes["log.record.uid"] == KILL.uid
    assert readable.resource.attributes["host.name"] == "node-1"
    assert (
        "service.name" not in readable.resource.attributes
        or readable.resource.attributes["service.name"] != "unknown_service"
    )
    assert readable.instrumentation_scope is not None
    assert readable.instrumentation_scope.name == "otel_oom"


def test_the_fields_of_a_span_have_the_types_of_the_sdk() -> None:
    body = encode_span(sample_enriched_kill())
    (span,) = decode_spans(body)
    assert span.context is not None
    assert (span.context.trace_id, span.context.span_id) == (KILL.trace_id, KILL.span_id)
    assert span.context.trace_flags.sampled
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.ERROR
    assert span.start_time == KILL.time_unix_ns
    assert next(event.name for event in span.events) == "oom.victim.marked"
    # What a console exporter calls.
    assert KILL.uid in span.to_json()


def test_every_value_and_every_log_record_of_joined_requests_is_kept() -> None:
    request = ExportLogsServiceRequest()
    for resource in ("first", "second"):
        group = request.resource_logs.add(schema_url=f"https://{resource}/1")
        group.resource.attributes.add(key="host.name").value.string_value = resource
        for scope in ("a", "b"):
            scoped = group.scope_logs.add(schema_url="https://scope/1")
            scoped.scope.name, scoped.scope.version = scope, "1.2"
            scoped.scope.attributes.add(key="of.scope").value.bool_value = True
            for number in (1, 2):
                record = scoped.log_records.add(
                    time_unix_nano=number,
                    observed_time_unix_nano=9,
                    severity_number=17,
                    severity_text="ERR",
                    trace_id=b"t" * 16,
                    span_id=b"s" * 8,
                    flags=1,
                    event_name="some.event",
                    dropped_attributes_count=4,
                    attributes=any_pairs(),
                )
                record.body.kvlist_value.values.add(key="k").value.string_value = "v"
    assert encode_logs(decode_log_records(request.SerializeToString())) == request


def test_every_field_of_a_span_is_kept() -> None:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(schema_url="https://resource/1")
    group.resource.attributes.add(key="host.name").value.string_value = "node"
    scoped = group.scope_spans.add()
    scoped.scope.name = "a"
    has_remote = trace.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    remote = has_remote | trace.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
    span = scoped.spans.add(
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        parent_span_id=b"p" * 8,
        trace_state="vendor=1,other=2",
        flags=remote,
        name="oom.kill",
        kind=trace.Span.SPAN_KIND_CONSUMER,
        start_time_unix_nano=1,
        end_time_unix_nano=2,
        attributes=any_pairs(),
        dropped_attributes_count=1,
        dropped_events_count=2,
        dropped_links_count=3,
    )
    span.status.code = trace.Status.STATUS_CODE_OK
    span.events.add(name="e", time_unix_nano=5, attributes=any_pairs(), dropped_attributes_count=6)
    span.links.add(
        trace_id=b"u" * 16,
        span_id=b"v" * 8,
        flags=remote,
        attributes=any_pairs(),
        dropped_attributes_count=7,
    )
    assert encode_spans(decode_spans(request.SerializeToString())) == request
