"""Each form in which a kernel since 2.6 logs a kill, and what else its log has of it."""

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


def lines(form: MessageFormat) -> list[Line]:
    """As a log without sequence numbers and callers has them, a millisecond apart."""
    return [Line(text, at * 1_000_000, at) for at, text in enumerate(form.lines)]


def told(given: list[Line]) -> list[OomKill]:
    """The events of the kills in a log."""
    parser = KernelLogParser()
    events: list[LogEvent | None] = [parser.feed(line) for line in given]
    events += parser.finish()
    made = EventBuilder("boot", "replay", "file", ProcessLookup(NOWHERE))
    kills = [made.build_kill(event, 10**9, 0) for event in events if isinstance(event, LoggedKill)]
    return [kill for kill in kills if not kill.skipped]


@pytest.mark.parametrize("form", MESSAGE_FORMATS, ids=lambda form: f"{form.number}-{form.name}")
def test_every_form_is_told_for_what_it_is(form: MessageFormat) -> None:
    """One event a kill, with what that kernel prints of it; what it does not print is absent."""
    assert [victim_of(kill) for kill in told(lines(form))] == list(form.victims)


def test_every_form_is_there() -> None:
    """The list of forms has 18."""
    assert {form.number for form in MESSAGE_FORMATS} == set(range(1, 19))
