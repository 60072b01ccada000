"""Encoding of events."""

from __future__ import annotations

from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

from otel_oom import __version__
from otel_oom.enrich.event import enrich_no_victim, enrich_panic
from otel_oom.otlp.body import kill_body
from otel_oom.otlp.encode import encode_log
from otel_oom.otlp.event import build_event
from tests.testlib.samples.events import (
    HOST,
    HOST_ATTRIBUTES,
    KILL,
    NO_VICTIM,
    PANIC,
    sample_enriched_kill,
)
from tests.testlib.samples.otlp import log_record, resource_logs, span
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


def test_kill_record_follows_the_conventions_for_events() -> None:
    record = log_record(sample_enriched_kill())
    assert record.event_name == "oom.kill"
    assert record.time_unix_nano == KILL.time_unix_ns
    assert record.observed_time_unix_nano == KILL.time_unix_ns + 5
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_FATAL
    assert record.severity_text == ""
    assert record.body.string_value == kill_body(sample_enriched_kill())


def test_exiting_victim_is_a_warning() -> None:
    stack = ("mark_oom_victim+0x1", "out_of_memory+0x2", "mem_cgroup_out_of_memory+0x3")
    record = log_record(sample_enriched_kill(stack=stack))
    assert attributes_to_dict(record.attributes)["oom.outcome"] == "already_exiting"
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_WARN
    assert "killed" not in record.body.string_value


def test_skipped_victim_is_a_warning() -> None:
    record = log_record(sample_enriched_kill(skipped=True, memory=None))
    assert attributes_to_dict(record.attributes)["oom.outcome"] == "skipped"
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_WARN
    assert "did not kill" in record.body.string_value


def test_no_victim_record_has_neither_process_nor_span() -> None:
    record = log_record(enrich_no_victim(NO_VICTIM, 7, HOST))
    attributes = attributes_to_dict(record.attributes)
    assert (record.event_name, record.trace_id) == ("oom.no_victim", b"")
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_ERROR
    assert attributes["oom.limit.memcg.path"] == "/docker"
    assert (attributes["oom.trigger.pid"], attributes["oom.decision.repeat_count"]) == (99, 3)
    assert "process.pid" not in attributes
    for part in ("no killable process", "/docker", "64.0 MiB", "sidecar (pid 99)", "3 times"):
        assert part in record.body.string_value


def test_kernel_report_is_in_the_log_event_only() -> None:
    text = "line\n" * 5000
    kill = sample_enriched_kill(original=text)
    record = build_event(kill).to_log_record().log_record
    assert record.attributes is not None
    assert record.attributes["log.record.original"] == text
    span = build_event(kill).to_span()
    assert span is not None
    assert "log.record.original" not in (span.attributes or {})
    plain_record = build_event(sample_enriched_kill()).to_log_record().log_record
    assert "log.record.original" not in (plain_record.attributes or {})


def test_panic_record_has_the_host_as_its_resource() -> None:
    group = resource_logs(enrich_panic(PANIC, 7, HOST))
    (record,) = group.scope_logs[0].log_records
    attributes = attributes_to_dict(record.attributes)
    assert (record.event_name, record.trace_id) == ("oom.panic", b"")
    assert record.time_unix_nano == PANIC.time_unix_ns
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_FATAL
    assert attributes["log.record.uid"] == PANIC.uid
    assert attributes["log.record.original"] == PANIC.original
    assert attributes["oom.panic.boot_id"] == PANIC.boot_id
    assert (attributes["oom.trigger.tid"], attributes["oom.decision.origin"]) == (100, "memcg")
    assert attributes_to_dict(group.resource.attributes) == {
        **HOST_ATTRIBUTES,
        "service.name": "unknown_service",
    }
    for part in ("kernel panic", str(PANIC.message), "64.0 MiB", "/docker", "sidecar (thread 100)"):
        assert part in record.body.string_value


def test_panic_record_without_details() -> None:
    bare = replace(
        PANIC, boot_id="", message=None, tid=None, comm=None, trigger=None, decision=None, stack=()
    )
    record = log_record(enrich_panic(bare, 7, HOST))
    assert set(attributes_to_dict(record.attributes)) == {
        "log.record.uid",
        "log.record.original",
        "oom.capture.source",
        "oom.capture.hook",
        "oom.time.source",
    }
    assert record.body.string_value.endswith(
        "the host was out of memory when a process requested memory."
    )


def test_resource_and_scope() -> None:
    group = resource_logs(sample_enriched_kill())
    assert attributes_to_dict(group.resource.attributes) == dict(sample_enriched_kill().resource)
    (scope,) = group.scope_logs
    assert (scope.scope.name, scope.scope.version) == ("otel_oom", __version__)
    assert group.schema_url == scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
