"""The page of one event: victim, limit, memory, allocation, timeline, settings, advice, ids.

Each section is a function from the decoded event to rich renderables. An unknown value has no line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType

from otel_oom.commands.console import page
from otel_oom.commands.console.page import Head
from otel_oom.commands.history import labels
from otel_oom.commands.history.entry import Entry
from otel_oom.commands.history.page.limit import render_limit
from otel_oom.commands.history.page.stacks import render_allocation
from otel_oom.commands.history.page.tasks import render_tasks
from otel_oom.commands.history.page.timeline import render_timeline
from otel_oom.commands.history.page.victim import RESIDENT_PARTS, render_victim
from otel_oom.linux.vm_sysctl import describe_settings
from otel_oom.model.units import format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_TITLES: Final = {
    semconv.EVENT_KILL: "OOM kill",
    semconv.EVENT_NO_VICTIM: "Out of memory, no killable process",
    semconv.EVENT_PANIC: "Kernel panic: out of memory",
    semconv.EVENT_MISSED: "Missed OOM kills",
    semconv.EVENT_DROPPED: "Dropped OOM kills",
}
_GROUP_HEADS: Final = (
    *(Head("UID"), Head("VICTIM", flexible=True), Head("RESIDENT", right=True), Head("OUTCOME")),
    Head("CGROUP", path=True),
)


def render_event(entry: Entry, group: Sequence[Entry]) -> Iterator[RenderableType]:
    """Yield the page of ``entry``; ``group`` are all victims of its decision, itself included."""
    event = entry.event
    title = _TITLES.get(event.name, event.name)
    yield page.text(f"{title}, {labels.format_time(event.unix_ns)}", "bold red")
    yield ""
    yield page.text(event.body)
    yield from render_victim(event)
    yield from _group(entry, group)
    yield from render_limit(event)
    yield from render_tasks(event)
    yield from render_allocation(event)
    yield from render_timeline(entry)
    yield from _settings(event)
    yield from _advice(event)
    yield from _ids(event)


def _group(entry: Entry, group: Sequence[Entry]) -> Iterator[RenderableType]:
    if len(group) < 2:  # noqa: PLR2004  itself alone
        return
    yield page.heading(f"Killed together (memory.oom.group): {len(group)}")
    rows = [
        (
            member.event.uid[: labels.UID_CHARS],
            labels.victim_label(member.event),
            _resident(member.event),
            labels.outcome_label(member.event),
            member.event.attributes.text(semconv.VICTIM_MEMCG_PATH) or "-",
        )
        for member in group
    ]
    marked = [index for index, member in enumerate(group) if member.id == entry.id]
    yield page.marked_table(_GROUP_HEADS, rows, marked)


def _resident(event: DecodedEvent) -> str:
    parts = [value for value in map(event.attributes.integer, RESIDENT_PARTS) if value is not None]
    return format_bytes(sum(parts)) if parts else "-"


def _settings(event: DecodedEvent) -> Iterator[RenderableType]:
    attributes = event.attributes
    settings, host = map(attributes.numbers, (semconv.HOST_SYSCTL_VM, semconv.HOST_MEMORY))
    sysctls = list(describe_settings(settings, host))
    if sysctls:
        yield page.heading("Kernel settings")
    for sysctl in sysctls:
        yield page.item("•", page.text(f"{sysctl.name} = {sysctl.value}: {sysctl.sentence}"))


def _advice(event: DecodedEvent) -> Iterator[RenderableType]:
    advice = event.attributes.text(semconv.ADVICE)
    if advice:
        yield page.heading("Advice")
        yield page.paragraph(advice, "green")


def _ids(event: DecodedEvent) -> Iterator[RenderableType]:
    attributes = event.attributes
    sources = (semconv.CAPTURE_SOURCE, semconv.CAPTURE_HOOK, semconv.DECISION_SOURCE)
    yield page.heading("Identifiers")
    yield from page.row("uid", event.uid)
    yield from page.row("trace", event.trace_id)
    yield from page.row("span", event.span_id)
    yield from page.row("captured by", ", ".join(filter(None, map(attributes.text, sources))))
    if attributes.values.get(semconv.CAPTURE_RECOVERED):
        yield from page.row("recovered", "recorded while no agent was running")
    yield from page.row("report", _report_origin(event))


def _report_origin(event: DecodedEvent) -> str | None:
    if event.attributes.values.get(semconv.REPORT_DROPPED):
        return "dropped at the size limit of the store"
    report_uid = event.attributes.text(semconv.REPORT_ID)
    return f"that of {report_uid}" if report_uid else None
