"""Programs with the library, and real kills."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_oom
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.pipeline import OomEvents
from tests.testlib.agent import run_agent
from tests.testlib.containers.kills import wait_for_kill_log, wait_for_span
from tests.testlib.containers.podman import run_podman
from tests.testlib.kernel.kills import kill_one
from tests.testlib.servers.backend import Backend, attributes_to_dict
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


def test_providers_of_a_program_get_log_span_and_count() -> None:
    """With the victim's resource, not the provider's; no thread is left."""
    logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    spans, metrics = InMemorySpanExporter(), InMemoryMetricReader()
    provider = LoggerProvider(Resource({"service.name": "program"}), shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    before = set(threading.enumerate())
    with OomEvents(
        logger_provider=provider,
        span_processors=[SimpleSpanProcessor(spans)],
        meter_provider=MeterProvider([metrics], shutdown_on_exit=False),
    ):
        kill = kill_one()
        wait_until(spans.get_finished_spans, "the span")
    wait_until(lambda: not {*threading.enumerate()} - before, "the end of its threads")
    records = [
        record
        for record in logs.get_finished_logs()
        if (record.log_record.attributes or {}).get("process.pid") == kill
    ]
    names = [record.log_record.event_name for record in records]
    assert names == ["oom.kill", "oom.victim.exited"]
    assert {record.resource.attributes["service.name"] for record in records} == {"tail"}
    (span,) = (
        span
        for span in spans.get_finished_spans()
        if (span.attributes or {}).get("process.pid") == kill
    )
    assert span.context is not None
    assert span.context.trace_id == records[0].log_record.trace_id
    data = metrics.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert metric.name == "oom.kills"
    assert {(point.attributes or {})["service.name"] for point in metric.data.data_points} == {
        "tail"
    }


def event_pid(event: otel_oom.Event) -> object:
    return event.attributes["process.pid"]


def test_an_event_that_was_not_acknowledged_comes_again(tmp_path: Path) -> None:
    """The one after which the next one was requested does not."""
    with otel_oom.watch(state_dir=tmp_path) as events:
        first = kill_one()
        assert [event_pid(next(events)), next(events).name] == [first, "oom.victim.exited"]
        second = kill_one()
        assert event_pid(next(events)) == second
    with otel_oom.watch(state_dir=tmp_path) as events:
        assert event_pid(next(events)) == second
        threading.Timer(0.2, events.close).start()
        assert [event.name for event in events] == ["oom.victim.exited"]


def test_an_event_is_sent_by_the_agent_as_the_program_had_it(tmp_path: Path) -> None:
    """Of one container: log record, span and end, byte by byte, with the resource and the ids."""
    with run_podman() as runtime:
        with otel_oom.watch(state_dir=tmp_path / "state") as events:
            container = runtime.run_until_killed("shop-web")
            kill, end = next(events), next(events)
        # None is acknowledged: the agent has them still to send.
        received = Backend()
        with Receiver(received) as receiver:
            environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
            with run_agent(tmp_path, environ):
                log = wait_for_kill_log(received, container["Id"])
                span = wait_for_span(received, log)
                wait_until(lambda: received.ends, "the end")
    exit_span = kill.to_span()
    assert exit_span is not None
    # The encoder reads both types of records.
    records = [kill.to_log_record(), end.to_log_record()]
    (logs,) = encode_logs(records).resource_logs  # type: ignore[arg-type]
    (spans,) = encode_spans([exit_span]).resource_spans
    assert [*logs.scope_logs[0].log_records] == [log.item, received.ends[0].item]
    assert [*spans.scope_spans[0].spans] == [span.item]
    assert attributes_to_dict(logs.resource.attributes) == log.resource == span.resource
    assert log.resource["container.id"] == container["Id"]
