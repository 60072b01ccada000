"""The timeline: from the victim's start to the delivery of its log and span."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from otel_oom.commands.elements import Element, Section, Step, Tone, known_facts
from otel_oom.commands.history import labels
from otel_oom.commands.history.entry import Entry
from otel_oom.model.units import NS_PER_MS, NS_PER_S, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent, SpanEvent

_MINUTE_S: Final = 60
_REAPER_STAGES: Final = {
    "wake": "oom_reaper woken",
    "start": "oom_reaper started",
    "finish": "oom_reaper finished",
    "skip": "oom_reaper skipped the victim",
}
_STATUSES: Final = {
    "delivered": "accepted by the backend",
    "queued": "queued: see otel-oom queue",
    "excluded": "not sent: excluded by a filter or processor",
    "pending": "pending: this page shows what is known so far",
}


def describe_timeline(entry: Entry) -> Section:
    """Return the section."""
    return Section("timeline", "Timeline", tuple(_elements(entry)))


def _elements(entry: Entry) -> Iterator[Element]:
    event = entry.event
    for unix_ns, text, tone in sorted(_steps(event), key=lambda timed: timed[0]):
        yield Step(format_distance(unix_ns - event.unix_ns), text, tone)
    if event.name == semconv.EVENT_KILL and not _has_ended(event):
        yield Step("…", "no exit of the victim recorded yet", "warning")
    for signal, status in (("log", entry.log_status), ("span", entry.span_status)):
        sentence = None if status is None else _STATUSES.get(status, status)
        yield from known_facts(signal, sentence, labels.status_tone(status))


def _steps(event: DecodedEvent) -> Iterator[tuple[int, str, Tone]]:
    attributes = event.attributes
    started = parse_unix_ns(attributes.text("process.creation.time"))
    if started is not None:
        yield started, "victim started", ""
    what = "kernel chose the victim and sent SIGKILL" if event.span_events else "event occurred"
    yield event.unix_ns, f"{what} ({labels.format_time(event.unix_ns, exact=True)})", "alarm"
    snapshot_s = attributes.number(semconv.SNAPSHOT_DELAY)
    if snapshot_s is not None:
        step = "agent read the statistics of cgroup and host"
        yield event.unix_ns + int(snapshot_s * NS_PER_S), step, ""
    tasks_s = attributes.number(semconv.TASKS_DELAY)
    if tasks_s is not None:
        lister = "kernel" if tasks_s < 0 else "agent"
        yield event.unix_ns + int(tasks_s * NS_PER_S), f"{lister} listed the processes", ""
    yield event.stored_unix_ns, "event stored on disk", ""
    for stage in event.span_events:
        text = _stage(stage)
        if text:
            yield stage.unix_ns, text, ""


def _stage(stage: SpanEvent) -> str | None:
    if stage.name == semconv.EVENT_REAPER:
        resident = stage.attributes.integer(semconv.REAPER_RESIDENT)
        text = _REAPER_STAGES.get(stage.attributes.text(semconv.REAPER_STAGE) or "", "oom_reaper")
        return text + (f", {format_bytes(resident)} left" if resident is not None else "")
    if stage.name == semconv.EVENT_LIMIT_APPROACHED:
        return f"usage rose to {stage.attributes.integer(semconv.GROWTH_PERCENT)} % of the limit"
    if stage.name == semconv.EVENT_VICTIM_EXITED:
        signal = stage.attributes.integer(semconv.VICTIM_EXIT_SIGNAL)
        return "victim exited" + (f", by signal {signal}" if signal else "")
    if stage.name == semconv.EVENT_VICTIM_ALIVE:
        return f"victim still alive, in state {stage.attributes.text(semconv.VICTIM_STATE)}"
    return None


def _has_ended(event: DecodedEvent) -> bool:
    ends = {semconv.EVENT_VICTIM_EXITED, semconv.EVENT_VICTIM_ALIVE}
    skipped = event.attributes.text(semconv.OUTCOME) == "skipped"
    return skipped or any(stage.name in ends for stage in event.span_events)


def format_distance(ns: int) -> str:
    """Return a time before or after the kill, in milliseconds if it is short."""
    seconds = abs(ns) / NS_PER_S
    sign = "-" if ns < 0 else "+"
    if seconds < 10:  # noqa: PLR2004  ten seconds in milliseconds are still easy to read
        return f"{sign}{abs(ns) / NS_PER_MS:.3f} ms" if ns else "0.000 ms"
    if seconds < 2 * _MINUTE_S:
        return f"{sign}{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days} d {hours} h"
    return f"{sign}{hours} h {minutes} min" if hours else f"{sign}{minutes} min {rest} s"


def parse_unix_ns(text: str | None) -> int | None:
    """Return a time in ISO 8601 in nanoseconds of Unix time; ``None`` if it is none."""
    try:
        return None if text is None else int(datetime.fromisoformat(text).timestamp() * NS_PER_S)
    except ValueError:
        return None
