"""The encoder of rows: each kill is enriched once, for its log event and its span."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.agent import enricher
from otel_oom.agent.encoder import EventEncoder
from otel_oom.agent.enricher import EventEnricher
from otel_oom.config.otlp import SIGNALS
from otel_oom.enrich import event
from otel_oom.enrich.types import EnrichedEvent
from otel_oom.linux.containers.service import ContainerService
from tests.testlib.samples.events import EXIT, HOST, KILL, sample_kill
from tests.testlib.samples.pending import EXITED, ROW
from tests.testlib.servers.backend import attributes_to_dict

if TYPE_CHECKING:
    import pytest


def count_enrichments(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the uids of the kills that are enriched from now on."""
    uids: list[str] = []
    enrich = event.enrich_event

    def counted(*args: object) -> EnrichedEvent:
        uids.append(args[0].uid)  # type: ignore[attr-defined]
        return enrich(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(enricher, "enrich_event", counted)
    return uids


def new_encoder(signals: frozenset[str] = frozenset(SIGNALS)) -> EventEncoder:
    return EventEncoder(EventEnricher(HOST, ContainerService(), "this boot"), signals)


def test_span_has_the_enrichment_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    enriched, events = count_enrichments(monkeypatch), new_encoder()
    first, second = events.encode(ROW), events.encode(EXITED)
    assert enriched == [KILL.uid]
    assert first.log is not None
    assert (first.span, second.log) == (None, None)
    assert second.span is not None
    assert first.kills
    assert (first.kills.count, second.kills) == (1, None)
    assert second.counts == {}
    log = ExportLogsServiceRequest.FromString(first.log).resource_logs[0]
    span = ExportTraceServiceRequest.FromString(second.span).resource_spans[0]
    of_log = attributes_to_dict(log.scope_logs[0].log_records[0].attributes)
    of_span = attributes_to_dict(span.scope_spans[0].spans[0].attributes)
    of_end = {"oom.victim.exited": True, "process.exit.time": "2023-11-14T22:13:20.250Z"}
    assert of_span == of_log | of_end
    assert span.resource == log.resource


def test_log_and_span_of_an_exited_victim_are_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    enriched = count_enrichments(monkeypatch)
    entry = new_encoder().encode(replace(ROW, exit=EXIT))
    assert None not in {entry.log, entry.span}
    assert enriched == [KILL.uid]


def test_end_is_encoded_with_the_span_alone() -> None:
    events = new_encoder()
    first, second = events.encode(ROW), events.encode(EXITED)
    assert first.end_log is None
    assert [(key, signal) for key, signal, _ in second.messages] == [
        (KILL.uid, "traces"),
        (f"{KILL.uid}/end", "logs"),
    ]


def test_end_needs_the_logs_and_not_the_traces() -> None:
    logs = new_encoder(frozenset({"logs"}))
    traces = new_encoder(frozenset({"traces"}))
    assert [signal for _, signal, _ in logs.encode(EXITED).messages] == ["logs"]
    assert [signal for _, signal, _ in traces.encode(EXITED).messages] == ["traces"]


def test_span_after_a_restart_is_the_same() -> None:
    events = new_encoder()
    events.encode(ROW)
    assert new_encoder().encode(EXITED) == events.encode(EXITED)


def test_few_kills_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enricher, "MAX_KEPT", 2)
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
