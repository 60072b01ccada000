"""The page of one event: victim, limit, memory, allocation, timeline, settings, advice, ids.

Each section is a function from the decoded event to elements, which the console and the HTML page
render. An unknown value has no element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from otel_oom.commands.elements import (
    Bullet,
    Element,
    Fact,
    Head,
    Page,
    Paragraph,
    Section,
    Table,
    Verbatim,
    known_facts,
)
from otel_oom.commands.history import labels
from otel_oom.commands.history.entry import Entry
from otel_oom.commands.history.page.growth import describe_growth
from otel_oom.commands.history.page.limit import describe_limit
from otel_oom.commands.history.page.mappings import describe_mappings
from otel_oom.commands.history.page.stacks import describe_allocation
from otel_oom.commands.history.page.tasks import describe_tasks
from otel_oom.commands.history.page.timeline import describe_timeline
from otel_oom.commands.history.page.victim import describe_victim, resident_bytes
from otel_oom.linux.vm_sysctl import describe_settings
from otel_oom.model.units import format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_TITLES: Final = {
    semconv.EVENT_KILL: "OOM kill",
    semconv.EVENT_NO_VICTIM: "Out of memory, no killable process",
    semconv.EVENT_NEAR_LIMIT: "Memory near its limit",
    semconv.EVENT_PANIC: "Kernel panic: out of memory",
    semconv.EVENT_MISSED: "Missed OOM kills",
    semconv.EVENT_DROPPED: "Dropped OOM kills",
}
_GROUP_HEADS: Final = (
    *(Head("UID"), Head("VICTIM", flexible=True), Head("RESIDENT", right=True), Head("OUTCOME")),
    Head("CGROUP", path=True),
)


def describe_event(entry: Entry, group: Sequence[Entry]) -> Page:
    """Return the page of ``entry``; ``group`` are all victims of its decision, itself included."""
    event = entry.event
    sections = (
        describe_victim(event),
        _group(entry, group),
        describe_limit(event),
        describe_growth(event),
        describe_tasks(event),
        describe_mappings(event),
        describe_allocation(event),
        describe_timeline(entry),
        _settings(event),
        _advice(event),
        _ids(event),
        _kernel_report(event),
    )
    return Page(
        title=_TITLES.get(event.name, event.name),
        subject=_known(labels.victim_label(event)),
        time=labels.format_time(event.unix_ns),
        sentence=event.body,
        sections=tuple(section for section in sections if section),
        summary=tuple(_summary(event)),
    )


def _summary(event: DecodedEvent) -> Iterator[Fact]:
    """Yield what the list of events has of it."""
    cells = {
        "owner": labels.owner_label(event),
        "limit": labels.limit_label(event),
        "outcome": labels.outcome_label(event),
        "host": event.resource.text("host.name") or "-",
    }
    for label, text in cells.items():
        yield from known_facts(label, _known(text))


def _known(text: str) -> str:
    return "" if text == "-" else text


def _group(entry: Entry, group: Sequence[Entry]) -> Section | None:
    if len(group) < 2:  # noqa: PLR2004  itself alone
        return None
    rows = tuple(
        (
            member.event.uid[: labels.UID_CHARS],
            labels.victim_label(member.event),
            _resident(member.event),
            labels.outcome_label(member.event),
            member.event.attributes.text(semconv.VICTIM_MEMCG_PATH) or "-",
        )
        for member in group
    )
    marked = tuple(index for index, member in enumerate(group) if member.id == entry.id)
    title = f"Killed together (memory.oom.group): {len(group)}"
    return Section("group", title, (Table(_GROUP_HEADS, rows, marked, mark="this page"),))


def _resident(event: DecodedEvent) -> str:
    size = resident_bytes(event)
    return "-" if size is None else format_bytes(size)


def _settings(event: DecodedEvent) -> Section | None:
    attributes = event.attributes
    settings, host = map(attributes.numbers, (semconv.HOST_SYSCTL_VM, semconv.HOST_MEMORY))
    bullets = tuple(
        Bullet(f"{sysctl.name} = {sysctl.value}: {sysctl.sentence}")
        for sysctl in describe_settings(settings, host)
    )
    return Section("settings", "Kernel settings", bullets) if bullets else None


def _advice(event: DecodedEvent) -> Section | None:
    attributes = event.attributes
    advice, cause = attributes.text(semconv.ADVICE), attributes.text(semconv.CAUSE)
    evidence = ", ".join(attributes.texts(semconv.CAUSE_EVIDENCE))
    elements: tuple[Element, ...] = (
        *((Paragraph(advice, "advice"),) if advice else ()),
        *known_facts("cause", cause, "strong"),
        *known_facts("evidence", evidence, "muted"),
    )
    return Section("advice", "Advice", elements) if elements else None


def _ids(event: DecodedEvent) -> Section:
    return Section("ids", "Identifiers", tuple(_id_facts(event)))


def _id_facts(event: DecodedEvent) -> Iterator[Element]:
    attributes = event.attributes
    sources = (semconv.CAPTURE_SOURCE, semconv.CAPTURE_HOOK, semconv.DECISION_SOURCE)
    yield from known_facts("uid", event.uid)
    yield from known_facts("trace", event.trace_id)
    yield from known_facts("span", event.span_id)
    yield from known_facts("captured by", ", ".join(filter(None, map(attributes.text, sources))))
    if attributes.values.get(semconv.CAPTURE_RECOVERED):
        yield Fact("recovered", "recorded while no agent was running")
    yield from known_facts("report", _report_origin(event))


def _report_origin(event: DecodedEvent) -> str | None:
    if event.attributes.values.get(semconv.REPORT_DROPPED):
        return "dropped at the size limit of the store"
    report_uid = event.attributes.text(semconv.REPORT_ID)
    return f"that of {report_uid}" if report_uid else None


def _kernel_report(event: DecodedEvent) -> Section | None:
    original = event.attributes.text("log.record.original")
    if not original:
        return None
    lines = tuple(original.splitlines())
    title = f"{len(lines)} line{'s' if len(lines) > 1 else ''}, as logged"
    return Section("report", "Original report", (Verbatim(title, lines),))
