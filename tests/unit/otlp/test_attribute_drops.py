"""Attributes that the user drops: of log record, span, span events and resource."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.otlp.attribute_drops import AttributeDrops
from otel_oom.otlp.encode import encode_event_log, encode_event_span
from otel_oom.otlp.event import build_event
from tests.testlib.samples.events import sample_enriched_kill

EVENT = build_event(sample_enriched_kill())


def names(*globs: str) -> tuple[set[str], set[str], set[str]]:
    """Return the names of attributes of the log, of the span with its events, and of resources."""
    drops = AttributeDrops(globs)
    event = drops.drop_from_event(EVENT)
    logs = ExportLogsServiceRequest.FromString(encode_event_log(event)).resource_logs[0]
    encoded = encode_event_span(event, drop_attributes=drops.drop_from_spans)
    assert encoded
    spans = ExportTraceServiceRequest.FromString(encoded).resource_spans[0]
    (record,), (span,) = logs.scope_logs[0].log_records, spans.scope_spans[0].spans
    assert logs.resource == spans.resource
    return (
        {each.key for each in record.attributes},
        {each.key for each in span.attributes}
        | {each.key for event in span.events for each in event.attributes},
        {each.key for each in logs.resource.attributes},
    )


ALL = names()


def test_a_name_is_dropped_everywhere() -> None:
    log, span, resource = names("oom.victim.*", "log.record.original", "host.name")
    assert ALL[0] - log == {name for name in ALL[0] if name.startswith("oom.victim.")} | (
        {"log.record.original"} & ALL[0]
    )
    # What is known of the end is in the span, and in its events.
    assert {"oom.victim.exited", "oom.victim.exit.signal"} <= ALL[1] - span
    assert not {name for name in log | span if name.startswith("oom.victim.")}
    assert ALL[2] - resource == {"host.name"}


def test_a_glob_matches_the_whole_name() -> None:
    assert names("oom.victim", "VICTIM", "*.oom.*", "") == ALL


@pytest.mark.unregistered("required, and absent", "the resource is none of")
def test_the_uid_stays() -> None:
    log, span, resource = names("*")
    assert (log, span, resource) == ({"log.record.uid"}, {"log.record.uid"}, set())
