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


def make_lines(form: MessageFormat) -> list[Line]:
    """Return the lines as in a file, without callers, a millisecond apart."""
    return [Line(text, at * 1_000_000, at) for at, text in enumerate(form.lines)]


def parse(given: list[Line]) -> list[OomKill]:
    """Return the kills of a log."""
    parser = KernelLogParser()
    events: list[LogEvent | None] = [parser.feed(line) for line in given]
    events += parser.finish()
    made = EventBuilder("boot", "replay", "file", ProcessLookup(NOWHERE))
    kills = [made.build_kill(event, 10**9, 0) for event in events if isinstance(event, LoggedKill)]
    return [kill for kill in kills if not kill.skipped]


@pytest.mark.parametrize("form", MESSAGE_FORMATS, ids=lambda form: f"{form.number}-{form.name}")
def test_each_message_format(form: MessageFormat) -> None:
    """One event a kill, with the values that this kernel prints; others are absent."""
    assert [victim_of(kill) for kill in parse(make_lines(form))] == list(form.victims)


def test_there_are_samples_of_all_formats() -> None:
    assert {form.number for form in MESSAGE_FORMATS} == set(range(1, 19))
