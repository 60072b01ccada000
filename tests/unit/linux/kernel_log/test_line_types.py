"""Each message format in which a kernel since 2.6 logs a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LogEvent, LoggedKill
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import OomKill
from tests.testlib.samples.kernel_logs import MESSAGE_FORMATS, MessageFormat, victim_of

NOWHERE = Path("/nonexistent")


def parse_kills(texts: tuple[str, ...]) -> list[OomKill]:
    """Return the kills of a log without callers, whose lines are a millisecond apart."""
    parser = KernelLogParser()
    events: list[LogEvent | None] = [
        parser.feed(Line(text, index * 1_000_000, index)) for index, text in enumerate(texts)
    ]
    events += parser.finish()
    builder = EventBuilder("boot", "replay", "file", ProcessLookup(NOWHERE))
    kills = [builder.build_kill(each, 10**9, 0) for each in events if isinstance(each, LoggedKill)]
    return [kill for kill in kills if not kill.skipped]


@pytest.mark.parametrize("sample", MESSAGE_FORMATS, ids=lambda each: f"{each.number}-{each.name}")
def test_each_message_format(sample: MessageFormat) -> None:
    """One event a kill, with the values that this kernel prints; others are absent."""
    assert [victim_of(kill) for kill in parse_kills(sample.lines)] == list(sample.victims)


def test_there_are_samples_of_all_formats() -> None:
    assert {each.number for each in MESSAGE_FORMATS} == set(range(1, 19))
