"""The timeline: from the victim's start to what has become of what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from otel_oom.commands.console.page import Page
from otel_oom.commands.history import labels
from otel_oom.commands.history.entry import Entry
from otel_oom.model.units import NS_PER_MS, NS_PER_S, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent, SpanEvent

_MINUTE_S: Final = 60
_STEPS: Final = {
    "wake": "the kernel's reaper was called for it",
    "start": "the kernel's reaper began to take its memory",
    "finish": "the kernel's reaper was done",
    "skip": "the kernel's reaper found nothing to take",
}


def lines(entry: Entry, layout: Page) -> Iterator[str]:
    """The section."""
    record = entry.record
    yield from layout.heading("Timeline")
    for unix_ns, what in sorted(_steps(record), key=lambda step: step[0]):
        yield from layout.row(_distance(unix_ns - record.unix_ns), what)
    if record.name == semconv.EVENT_KILL and not _has_ended(record):
        yield from layout.row("…", "it was not seen to exit yet", "yellow")
    yield from layout.row("log", _fate(entry.log_fate), *_style(entry.log_fate))
    yield from layout.row("span", _fate(entry.span_fate), *_style(entry.span_fate))


def _steps(record: DecodedEvent) -> Iterator[tuple[int, str]]:
    values = record.attributes
    started = _unix_ns(values.text("process.creation.time"))
    if started is not None:
        yield started, "the victim was started"
    marked = "the kernel chose it and sent SIGKILL" if record.span_events else "it happened"
    yield record.unix_ns, f"{marked} ({labels.time_of(record.unix_ns, exact=True)})"
    for name, what in (
        (semconv.SNAPSHOT_DELAY, "the agent read the numbers of cgroup and host"),
        (semconv.TASKS_DELAY, "the agent looked at who used the memory"),
    ):
        after = values.number(name)
        if after is not None:
            yield record.unix_ns + int(after * NS_PER_S), what
    yield record.stored_unix_ns, "it was on the disk of this host"
    for stage in record.span_events:
        told = _stage(stage)
        if told:
            yield stage.unix_ns, told


def _stage(stage: SpanEvent) -> str | None:
    if stage.name == semconv.EVENT_REAPER:
        held = stage.attributes.integer(semconv.REAPER_RESIDENT)
        what = _STEPS.get(stage.attributes.text(semconv.REAPER_STAGE) or "", "the kernel's reaper")
        return what + (f", {format_bytes(held)} left" if held is not None else "")
    if stage.name == semconv.EVENT_VICTIM_EXITED:
        signal = stage.attributes.integer(semconv.VICTIM_EXIT_SIGNAL)
        return "the victim exited" + (f", by signal {signal}" if signal else "")
    if stage.name == semconv.EVENT_VICTIM_ALIVE:
        return f"the victim was still there, in state {stage.attributes.text(semconv.VICTIM_STATE)}"
    return None


def _has_ended(record: DecodedEvent) -> bool:
    ends = {semconv.EVENT_VICTIM_EXITED, semconv.EVENT_VICTIM_ALIVE}
    skipped = record.attributes.text(semconv.OUTCOME) == "skipped"
    return skipped or any(stage.name in ends for stage in record.span_events)


def _fate(fate: str | None) -> str | None:
    if fate is None:
        return None
    told = {
        "delivered": "taken by the backend",
        "queued": "waits to be sent: see otel-oom queue",
        "pending": "not told yet: what stands here is what is known now",
    }
    return told.get(fate, fate)


def _style(fate: str | None) -> tuple[str, ...]:
    word = labels.fate(fate)
    return ("red",) if word == "refused" else ("yellow",) if word in {"waits", "not yet"} else ()


def _distance(ns: int) -> str:
    """A time from the kill's: in milliseconds near it, else as people say it."""
    seconds = abs(ns) / NS_PER_S
    sign = "-" if ns < 0 else "+"
    if seconds < 10:  # noqa: PLR2004  ten seconds in milliseconds are still read at a glance
        return f"{sign}{abs(ns) / NS_PER_MS:.3f} ms" if ns else "0.000 ms"
    if seconds < 2 * _MINUTE_S:
        return f"{sign}{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days} d {hours} h"
    return f"{sign}{hours} h {minutes} min" if hours else f"{sign}{minutes} min {rest} s"


def _unix_ns(text: str | None) -> int | None:
    try:
        return None if text is None else int(datetime.fromisoformat(text).timestamp() * NS_PER_S)
    except ValueError:
        return None
