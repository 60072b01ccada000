"""Growth on the wire, in the sentence, and on the span."""

from __future__ import annotations

from datetime import datetime

import pytest

from otel_oom.model.units import MIB, NS_PER_S
from otel_oom.model.usage import UsageHistory
from tests.testlib.samples import history as samples
from tests.testlib.samples.events import KILL
from tests.testlib.samples.otlp import log_attributes, log_record, span
from tests.testlib.samples.usage import (
    LIMIT,
    Usage,
    enriched_kill,
    leak,
    plateau,
    sample_series,
    spike,
)
from tests.testlib.servers.backend import attributes_to_dict


def test_a_leak_is_sent_with_its_samples() -> None:
    """An array of integers, its interval, and the time of the last one."""
    series = sample_series(leak)
    kill = enriched_kill(UsageHistory(limit=series, victim=sample_series(leak, path="/docker/x")))
    attributes = log_attributes(kill)
    assert attributes["oom.growth.kind"] == "leak"
    assert attributes["oom.growth.rate"] == pytest.approx(2 * MIB, rel=0.1)
    assert attributes["oom.growth.limit.interval"] == 5
    ended = datetime.fromisoformat(str(attributes["oom.growth.limit.end_time"])).timestamp()
    assert ended == pytest.approx(KILL.time_unix_ns / NS_PER_S - 2, abs=0.001)
    event = samples.entry(kill).event
    assert event.attributes.integers("oom.growth.limit.usage") == series.values
    assert event.attributes.integers("oom.growth.victim.usage") == series.values
    assert "oom.growth.host.usage" not in attributes


def test_the_newest_of_many_samples_are_sent() -> None:
    series = sample_series(leak, count=5000, interval_s=1)
    event = samples.entry(enriched_kill(UsageHistory(limit=series))).event
    assert event.attributes.integers("oom.growth.limit.usage") == series.values[-240:]


def test_the_series_of_the_host_is_sent_for_its_own_memory_alone() -> None:
    history = UsageHistory(limit=sample_series(leak), host=sample_series(leak, path=None))
    assert "oom.growth.host.usage" not in log_attributes(enriched_kill(history))
    event = samples.entry(enriched_kill(history, of_host=True)).event
    assert len(event.attributes.integers("oom.growth.host.usage")) == 120


@pytest.mark.parametrize(
    ("usage", "clause"),
    [
        (leak, "limit of 128.0 MiB, after its usage grew 2.0 MiB a second for 64 s;"),
        (spike, "limit of 128.0 MiB, after its usage rose from 12.0 MiB within 2.0 s;"),
        (plateau, "limit of 128.0 MiB, after 64 s at 90 % or more;"),
        (lambda _: 2 * LIMIT, "limit of 128.0 MiB;"),
    ],
)
def test_the_sentence_has_the_growth_behind_the_limit(usage: Usage, clause: str) -> None:
    record = log_record(enriched_kill(UsageHistory(limit=sample_series(usage))))
    assert clause in record.body.string_value


def test_the_sentence_of_a_long_leak_says_that_it_may_have_begun_before() -> None:
    history = UsageHistory(host=sample_series(lambda time_s: LIMIT * (1 + time_s / 900), path=None))
    body = log_record(enriched_kill(history, of_host=True)).body.string_value
    assert "host was out of memory, after its usage grew 145.6 KiB a second for at least" in body


def test_the_span_begins_with_the_approach_to_the_limit() -> None:
    """A viewer draws events within their span; the mark is an event of its own."""
    dying = span(enriched_kill(UsageHistory(limit=sample_series(leak))))
    mark_ns = KILL.time_unix_ns
    names = [event.name for event in dying.events]
    assert names == [*["oom.limit.approached"] * 3, "oom.victim.marked", "oom.victim.exited"]
    times = [(event.time_unix_nano - mark_ns) / NS_PER_S for event in dying.events]
    assert times == pytest.approx([-32, -16, -6.4, 0, 0.005], abs=0.01)
    percents = [attributes_to_dict(event.attributes) for event in dying.events[:3]]
    assert percents == [{"oom.growth.percent": percent} for percent in (50, 75, 90)]
    assert dying.start_time_unix_nano == dying.events[0].time_unix_nano
    assert dying.end_time_unix_nano == dying.events[-1].time_unix_nano
