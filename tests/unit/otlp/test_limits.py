"""The user's limits in encoded requests (specification, "Attribute Limits")."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_oom.config.limits import NO_LIMITS, TelemetryLimits
from otel_oom.otlp.encode import encode_log, encode_span
from tests.testlib.samples.events import sample_enriched_kill

KILL = sample_enriched_kill()


def log_with(limits: TelemetryLimits) -> LogRecord:
    request = ExportLogsServiceRequest.FromString(encode_log(KILL, limits))
    return request.resource_logs[0].scope_logs[0].log_records[0]


def span_with(limits: TelemetryLimits) -> Span:
    request = ExportTraceServiceRequest.FromString(encode_span(KILL, limits))
    return request.resource_spans[0].scope_spans[0].spans[0]


def test_attributes_beyond_the_limit_are_counted() -> None:
    """What is around the kill goes first, the kill's own stays, and the order too."""
    every = [attribute.key for attribute in log_with(NO_LIMITS).attributes]
    limited = log_with(TelemetryLimits(log_attributes=20))
    names = [attribute.key for attribute in limited.attributes]
    assert len(names) == 20
    assert limited.dropped_attributes_count == len(every) - 20
    assert names == [name for name in every if name in names]
    assert not any(name.startswith("oom.host.") for name in names)


def test_texts_are_cut_also_in_arrays() -> None:
    log = log_with(TelemetryLimits(log_characters=5))
    values = [attribute.value for attribute in log.attributes]
    values += [item for value in values for item in value.array_value.values]
    cut = [len(value.string_value) for value in values if value.string_value != KILL.event.uid]
    assert max(cut) == 5
    assert len(log.body.string_value) > 5, "the body is no attribute"
    assert log_with(TelemetryLimits(span_characters=5)) == log_with(NO_LIMITS)


def test_the_uid_of_a_record_is_neither_cut_nor_dropped() -> None:
    """A backend knows a duplicate by it, and the outbox a kill whose Event waits."""
    (uid,) = log_with(TelemetryLimits(log_attributes=0, log_characters=1)).attributes
    assert (uid.key, uid.value.string_value) == ("log.record.uid", KILL.event.uid)


def test_limits_of_spans_and_their_events() -> None:
    every = span_with(NO_LIMITS)
    limits = TelemetryLimits(span_attributes=10, span_events=1, span_event_attributes=2)
    limited = span_with(limits)
    assert (len(limited.attributes), len(limited.events)) == (10, 1)
    assert limited.dropped_attributes_count == len(every.attributes) - 10
    assert limited.dropped_events_count == len(every.events) - 1
    (event,) = limited.events
    assert len(event.attributes) == 2
    assert event.dropped_attributes_count == len(every.events[0].attributes) - 2
