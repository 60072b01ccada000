"""Encoding of events."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.otlp.encode import encode_log
from tests.testlib.samples.events import (
    KILL,
    sample_enriched_kill,
)
from tests.testlib.samples.otlp import log_record, span
from tests.testlib.servers.backend import attributes_to_dict


def test_log_event_and_span_share_their_ids() -> None:
    record, dying = log_record(sample_enriched_kill()), span(sample_enriched_kill())
    assert record.trace_id == dying.trace_id == KILL.trace_id.to_bytes(16, "big")
    assert record.span_id == dying.span_id == KILL.span_id.to_bytes(8, "big")
    assert attributes_to_dict(record.attributes)["log.record.uid"] == KILL.uid
    assert attributes_to_dict(dying.attributes)["log.record.uid"] == KILL.uid


def test_joined_requests_are_one_request() -> None:
    joined = encode_log(sample_enriched_kill()) + encode_log(sample_enriched_kill(number=1))
    request = ExportLogsServiceRequest.FromString(joined)
    uids = [
        attributes_to_dict(record.attributes)["log.record.uid"]
        for group in request.resource_logs
        for record in group.scope_logs[0].log_records
    ]
    assert uids == [KILL.uid, sample_enriched_kill(number=1).event.uid]
