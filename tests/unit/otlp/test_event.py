"""The event of programs: its processors, its log record and its span."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_struct
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs

from otel_oom.enrich.types import VictimOutcome
from otel_oom.otlp.encode import encode_log
from otel_oom.otlp.event import Event, Processor, build_end_event, build_event, process_event
from tests.testlib.samples.events import EXIT, sample_enriched_kill


def sample_event() -> Event:
    return build_event(sample_enriched_kill(original="report"))


def test_log_record_for_a_logger_is_that_of_the_agent() -> None:
    """The SDK's own type of record, which keeps its resource."""
    enriched = sample_enriched_kill(original="report")
    request = encode_logs([build_event(enriched).to_log_record()])  # type: ignore[list-item]
    assert request.SerializeToString() == encode_log(enriched)


@pytest.mark.unregistered("more.")
def test_log_record_counts_the_attributes_that_were_dropped() -> None:
    event = sample_event()
    event.attributes.update({f"more.{number}": number for number in range(200)})
    dropped = event.to_log_record().dropped_attributes
    assert dropped == event.to_readable_record().dropped_attributes > 0


def test_change_of_a_processor_is_in_log_record_and_span() -> None:
    """Also in the span event of the mark."""

    def redact(event: Event) -> Event:
        del event.attributes["oom.victim.comm"]
        return replace(event, sentence="killed", resource={"service.name": "hidden"})

    event = process_event(sample_event(), [redact])
    assert event is not None
    record, span = event.to_log_record(), event.to_span()
    assert span is not None
    assert record.log_record.body == span.status.description == "killed"
    assert record.resource is not None
    assert dict(record.resource.attributes) == dict(span.resource.attributes)
    assert dict(span.resource.attributes) == {"service.name": "hidden"}
    for attributes in (
        record.log_record.attributes,
        span.attributes,
        *(each.attributes for each in span.events),
    ):
        assert attributes is not None
        assert "oom.victim.comm" not in attributes


def test_processors_run_in_order_until_one_drops_the_event() -> None:
    calls: list[str] = []

    def keep(event: Event) -> Event:
        calls.append("keep")
        return event

    def drop(_: Event) -> None:
        calls.append("drop")

    assert process_event(sample_event(), [keep, drop, keep]) is None
    assert calls == ["keep", "drop"]


@pytest.mark.parametrize("returned", [None, "no event"])
def test_processor_that_fails_changes_nothing(returned: str | None) -> None:
    """Neither by what it wrote before, nor by what it returned; the next ones run."""
    errors: list[tuple[Processor, Exception]] = []

    def fail(event: Event) -> Event:
        event.attributes.clear()
        event.resource.clear()
        if returned is None:
            raise RuntimeError("broken")
        return returned  # type: ignore[return-value]

    event = sample_event()
    processed = process_event(
        event, [fail, lambda each: each], lambda *failed: errors.append(failed)
    )
    assert processed == event
    assert event.attributes
    ((processor, error),) = errors
    assert processor is fail
    assert isinstance(error, RuntimeError if returned is None else TypeError)


def test_skipped_kill_has_no_span() -> None:
    """The kernel did not kill: nothing waits for an exit."""
    enriched = sample_enriched_kill()
    skipped = replace_struct(enriched, event=replace_struct(enriched.event, skipped=True))
    assert build_event(enriched).to_span() is not None
    assert build_event(skipped).to_span() is None


def test_end_is_an_event_without_a_span() -> None:
    enriched = replace_struct(sample_enriched_kill(), victim_outcome=VictimOutcome(exit=EXIT))
    end = build_end_event(enriched)
    assert end is not None
    assert end.to_span() is None
    assert end.uid == end.attributes["log.record.uid"] != enriched.event.uid
    assert end.time_unix_ns == end.to_log_record().log_record.timestamp
