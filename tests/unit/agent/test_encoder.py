"""The encoder of rows: each kill is enriched once, for its log event and its span."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.agent import encoder
from otel_oom.agent.encoder import EventEncoder
from otel_oom.enrich import event
from otel_oom.enrich.types import EnrichedEvent
from otel_oom.linux.containers.service import ContainerService
from otel_oom.store import PendingEvent
from tests.testlib.samples.events import EXIT, HOST, KILL, SNAPSHOT, sample_kill
from tests.testlib.servers.backend import attributes_to_dict

if TYPE_CHECKING:
    import pytest

ROW = PendingEvent(
    id=1,
    event=KILL,
    snapshot=SNAPSHOT,
    exit=None,
    reaper_steps=(),
    exit_overdue=False,
    stored_unix_ns=KILL.time_unix_ns,
    log_queued=False,
    span_queued=False,
)
EXITED = replace(ROW, exit=EXIT, log_queued=True)


def count_enrichments(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the uids of the kills that are enriched from now on."""
    uids: list[str] = []
    enrich = event.enrich_event

    def counted(*args: object) -> EnrichedEvent:
        uids.append(args[0].uid)  # type: ignore[attr-defined]
        return enrich(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "enrich_event", counted)
    return uids


def new_encoder() -> EventEncoder:
    return EventEncoder(HOST, ContainerService(), "this boot")


def test_span_has_the_enrichment_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    enriched, events = count_enrichments(monkeypatch), new_encoder()
    first, second = events.encode(ROW), events.encode(EXITED)
    assert enriched == [KILL.uid]
    assert first.log is not None
    assert (first.span, second.log) == (None, None)
    assert second.span is not None
    assert (len(first.counts), len(second.counts)) == (1, 0)
    log = ExportLogsServiceRequest.FromString(first.log).resource_logs[0]
    span = ExportTraceServiceRequest.FromString(second.span).resource_spans[0]
    of_log = attributes_to_dict(log.scope_logs[0].log_records[0].attributes)
    of_span = attributes_to_dict(span.scope_spans[0].spans[0].attributes)
    assert of_span == of_log | {"oom.victim.exited": True}
    assert span.resource == log.resource


def test_log_and_span_of_an_exited_victim_are_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    enriched = count_enrichments(monkeypatch)
    entry = new_encoder().encode(replace(ROW, exit=EXIT))
    assert None not in {entry.log, entry.span}
    assert enriched == [KILL.uid]


def test_span_after_a_restart_is_the_same() -> None:
    events = new_encoder()
    events.encode(ROW)
    assert new_encoder().encode(EXITED) == events.encode(EXITED)


def test_few_kills_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_MAX_KEPT", 2)
    enriched, events = count_enrichments(monkeypatch), new_encoder()
    kills = [sample_kill(number) for number in range(3)]
    for kill in kills:
        events.encode(replace(ROW, event=kill))
    assert [*events.decoded] == [kill.uid for kill in kills[1:]]
    for kill in kills:
        events.encode(replace(EXITED, event=kill))
    assert enriched == [*(kill.uid for kill in kills), kills[0].uid]
    assert not events.decoded


def test_a_log_without_its_report_is_encoded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    enriched, events = count_enrichments(monkeypatch), new_encoder()
    with_report = replace(ROW, event=replace(KILL, original="report"))
    assert b"report" in (events.encode(with_report).log or b"")
    stripped = replace(KILL, tasks=None, report_dropped=True)
    log = events.encode(replace(ROW, event=stripped)).log
    assert enriched == [KILL.uid] * 2
    assert log is not None
    (group,) = ExportLogsServiceRequest.FromString(log).resource_logs
    attributes = attributes_to_dict(group.scope_logs[0].log_records[0].attributes)
    assert attributes["oom.report.dropped"] is True
    assert "log.record.original" not in attributes
    assert events.decoded.keys() == {KILL.uid}
