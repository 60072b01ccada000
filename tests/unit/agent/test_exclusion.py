"""The encoder with filters and processors: what is excluded is counted, and never sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace as changed

import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.agent.encoder import EventEncoder
from otel_oom.agent.enricher import EventEnricher
from otel_oom.agent.event_processing import EventProcessing
from otel_oom.config.filters import FilterConfig, read_filters
from otel_oom.config.otlp import SIGNALS
from otel_oom.linux.containers.service import ContainerService
from otel_oom.otlp.event import Event
from otel_oom.store import OutboxEntry
from otel_oom.store.counters import VICTIM_MEMORY
from otel_oom.store.types import EXCLUDED
from tests.testlib.samples.events import EXIT, HOST, KILL
from tests.testlib.samples.pending import EXITED, ROW

EXCLUDE_ALL = {"OTEL_OOM_EXCLUDE": "comm=*"}


def new_encoder(filters: FilterConfig) -> EventEncoder:
    enricher = EventEnricher(HOST, ContainerService(), "this boot")
    processing = EventProcessing(filters, Counter())
    return EventEncoder(enricher, frozenset(SIGNALS), processing=processing)


def processor_config(processor: Callable[[Event], Event | None]) -> FilterConfig:
    return FilterConfig(processors={"redact": processor})


def states(entry: OutboxEntry) -> tuple[int, int]:
    return entry.queue_state("logs"), entry.queue_state("traces")


@pytest.mark.parametrize("plain", [False, True])
def test_an_excluded_kill_counts_as_a_kill_and_as_excluded(plain: bool) -> None:  # noqa: FBT001
    encoder = new_encoder(read_filters(EXCLUDE_ALL))
    entry = encoder.encode(ROW, plain=plain)
    assert (entry.messages, states(entry)) == ([], (EXCLUDED, EXCLUDED))
    counts = {k: n for k, n in entry.counts.items() if not k.startswith(VICTIM_MEMORY)}
    assert counts == {"excluded.OTEL_OOM_EXCLUDE": 1}
    assert entry.kills
    assert entry.kills.count == 1
    assert "service.name" not in entry.kills.label
    assert encoder.decoded == {}


def test_a_rule_that_came_after_the_log_excludes_the_span_alone() -> None:
    entry = new_encoder(read_filters(EXCLUDE_ALL)).encode(EXITED)
    assert (entry.messages, entry.counts) == ([], {})
    assert entry.excluded == frozenset({"traces"})


def test_a_processor_that_drops_an_event_excludes_it() -> None:
    entry = new_encoder(processor_config(lambda _: None)).encode(ROW)
    assert (entry.messages, states(entry)) == ([], (EXCLUDED, EXCLUDED))
    assert entry.counts["excluded.redact"] == 1


@pytest.mark.unregistered("required, and absent")
def test_a_processor_changes_log_span_and_the_event_of_the_end() -> None:
    seen: list[str] = []

    def redact(event: Event) -> Event:
        seen.append(event.name)
        attributes = {name: value for name, value in event.attributes.items() if "memory" in name}
        return changed(
            event,
            sentence="redacted",
            attributes=attributes,
            resource={"service.name": "redacted"},
        )

    entry = new_encoder(processor_config(redact)).encode(replace(ROW, exit=EXIT))
    assert seen == ["oom.kill", "oom.victim.exited"]
    for payload in (entry.log, entry.end_log):
        assert payload
        (logs,) = ExportLogsServiceRequest.FromString(payload).resource_logs
        (record,) = logs.scope_logs[0].log_records
        assert record.body.string_value == "redacted"
        assert [each.value.string_value for each in logs.resource.attributes] == ["redacted"]
        assert all("memory" in each.key for each in record.attributes)
    assert entry.span
    assert KILL.victim.comm
    assert KILL.victim.comm.encode() not in entry.span
    (spans,) = ExportTraceServiceRequest.FromString(entry.span).resource_spans
    assert spans.scope_spans[0].spans[0].status.message == "redacted"


def test_what_ended_the_agent_may_be_a_processor() -> None:
    entry = new_encoder(processor_config(lambda _: None)).encode(ROW, plain=True)
    assert entry.log
    assert entry.excluded == frozenset()
