"""The span of a kill."""

from __future__ import annotations

from datetime import datetime

import pytest
from msgspec.structs import replace
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from otel_oom.enrich.types import StillAlive, VictimOutcome
from tests.testlib.samples.events import (
    EXIT,
    KILL,
    REAPER_STEPS,
    sample_enriched_kill,
)
from tests.testlib.samples.otlp import log_attributes, span
from tests.testlib.servers.backend import attributes_to_dict


def test_span_lasts_from_the_mark_to_the_exit() -> None:
    dying = span(sample_enriched_kill())
    end = KILL.time_unix_ns + 250_000_000
    assert (dying.name, dying.start_time_unix_nano) == ("oom.kill", KILL.time_unix_ns)
    assert dying.end_time_unix_nano == end
    assert [(event.name, event.time_unix_nano) for event in dying.events] == [
        ("oom.victim.marked", KILL.time_unix_ns),
        ("oom.victim.exited", end),
    ]
    assert attributes_to_dict(dying.events[1].attributes) == {
        "oom.victim.exit.signal": 9,
        "oom.victim.exit.delay": 0.25,
    }
    assert dying.status.code == Status.STATUS_CODE_ERROR
    attributes = attributes_to_dict(dying.attributes)
    assert attributes["oom.victim.exited"] is True
    assert attributes["error.type"] == "oom_kill"
    exited = datetime.fromisoformat(str(attributes["process.exit.time"]))
    assert exited.timestamp() == pytest.approx(end / 1e9, abs=0.001)


def test_span_of_a_victim_that_exited_before_its_mark_has_no_length() -> None:
    """The kernel sends the signal before the mark."""
    early = replace(EXIT, boottime_ns=KILL.boottime_ns - 2_600)
    dying = span(sample_enriched_kill(exit_=early))
    assert dying.end_time_unix_nano == dying.start_time_unix_nano
    assert attributes_to_dict(dying.events[-1].attributes)["oom.victim.exit.delay"] == 0


def test_victims_of_one_decision_share_a_trace() -> None:
    first, member = sample_enriched_kill(), sample_enriched_kill(number=1, incident=KILL.uid)
    assert span(member).trace_id == span(first).trace_id
    assert span(member).parent_span_id == span(first).span_id != span(member).span_id
    assert span(first).parent_span_id == b""
    assert log_attributes(member)["oom.incident.id"] == KILL.uid


def test_exit_without_a_code_has_no_signal() -> None:
    dying = span(sample_enriched_kill(exit_=replace(EXIT, exit_code=None)))
    assert attributes_to_dict(dying.events[-1].attributes) == {"oom.victim.exit.delay": 0.25}
    assert attributes_to_dict(dying.attributes)["oom.victim.exited"] is True


def test_span_without_a_known_exit_has_no_length() -> None:
    dying = span(sample_enriched_kill(exit_=None))
    assert dying.end_time_unix_nano == dying.start_time_unix_nano
    assert [event.name for event in dying.events] == ["oom.victim.marked"]
    assert (
        not {"oom.victim.exited", "process.exit.time"} & attributes_to_dict(dying.attributes).keys()
    )


def test_span_of_a_living_victim_ends_at_its_last_state() -> None:
    alive = StillAlive(KILL.boottime_ns + 10_000_000_000, "D")
    dying = span(replace(sample_enriched_kill(), victim_outcome=VictimOutcome(alive=alive)))
    assert dying.end_time_unix_nano - dying.start_time_unix_nano == 10_000_000_000
    assert dying.events[-1].name == "oom.victim.alive"
    assert attributes_to_dict(dying.events[-1].attributes) == {"oom.victim.state": "D"}
    assert attributes_to_dict(dying.attributes)["oom.victim.exited"] is False


def test_span_has_the_steps_of_the_oom_reaper() -> None:
    dying = span(replace(sample_enriched_kill(), victim_outcome=VictimOutcome(EXIT, REAPER_STEPS)))
    assert [event.name for event in dying.events] == [
        "oom.victim.marked",
        "oom.reaper",
        "oom.reaper",
        "oom.victim.exited",
    ]
    assert attributes_to_dict(dying.events[2].attributes) == {
        "oom.reaper.stage": "finish",
        "oom.reaper.resident": 1 << 20,
    }
    assert attributes_to_dict(dying.attributes)["oom.victim.memory.reaped"] == 49 << 20


def test_exit_is_on_the_clock_of_the_kill() -> None:
    """A step of the wall clock must not make a span negative."""
    stepped = replace(KILL, time_unix_ns=KILL.time_unix_ns - 10**12)
    dying = span(replace(sample_enriched_kill(), event=stepped))
    took = dying.end_time_unix_nano - dying.start_time_unix_nano
    assert took == EXIT.boottime_ns - KILL.boottime_ns
