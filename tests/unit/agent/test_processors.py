"""Processors of other packages: what they change, and that they cost no event."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from otel_oom.agent.processors import ProcessorChain
from otel_oom.otlp.event import Event, Processor, build_event
from tests.testlib.samples.events import sample_enriched_kill

EVENT = build_event(sample_enriched_kill())


def process(
    *processors: Processor, limit_s: float = 60.0
) -> tuple[Event | str, Counter[tuple[str, str]]]:
    """Return the result of processors named a, b, …, and the counted errors."""
    errors: Counter[tuple[str, str]] = Counter()
    named = {chr(ord("a") + index): each for index, each in enumerate(processors)}
    return ProcessorChain(named, errors, limit_s).process(EVENT), errors


def redact(event: Event) -> Event:
    return replace(
        event, sentence="redacted", attributes={**event.attributes, "oom.outcome": "skipped"}
    )


def test_processors_see_what_earlier_ones_made() -> None:
    seen: list[Event] = []

    def record(event: Event) -> Event:
        seen.append(event)
        return event

    result, errors = process(redact, record)
    assert isinstance(result, Event)
    assert (result.sentence, result.attributes["oom.outcome"]) == ("redacted", "skipped")
    assert (seen, errors) == ([result], Counter())


def test_none_drops_the_event_and_later_processors_do_not_get_it() -> None:
    seen: list[Event] = []
    assert process(redact, lambda _: None, seen.append) == ("b", Counter())
    assert seen == []


def spoil(event: Event) -> Event:
    """Change the event it was given, then fail."""
    event.attributes.clear()
    event.resource["service.name"] = "spoilt"
    raise KeyError("no such key")


def leave(event: Event) -> Event:
    assert event
    sys.exit(1)


def return_text(_: Event) -> Event:
    return "text"  # type: ignore[return-value]  # what a wrong processor does


def return_unencodable(event: Event) -> Event:
    return replace(event, sentence=object())  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize(
    ("processor", "error_type"),
    [
        (spoil, "KeyError"),
        (leave, "RuntimeError"),
        (return_text, "TypeError"),
        (return_unencodable, "Exception"),
    ],
)
def test_an_event_goes_on_as_it_was_after_an_error(
    processor: Processor, error_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    result, errors = process(processor, redact)
    assert result == redact(EVENT)
    assert errors == {("a", error_type): 1}
    (message,) = caplog.messages
    assert message.startswith(f"Processor a: failed, events go on as they were: {error_type}: ")


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    """An event for which a processor waits, until the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def test_a_processor_that_hangs_is_off(
    hung: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Event] = []

    def hang(event: Event) -> Event:
        calls.append(event)
        hung.wait()
        return event

    errors: Counter[tuple[str, str]] = Counter()
    chain = ProcessorChain({"a": hang, "b": redact}, errors, limit_s=0.01)
    # It is not called again, and a late result is no result of a later event.
    assert chain.process(EVENT) == redact(EVENT)
    hung.set()
    assert chain.process(EVENT) == redact(EVENT)
    assert calls == [EVENT]
    assert errors == {("a", "timeout"): 2}
    assert len(caplog.messages) == 1
