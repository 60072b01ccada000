"""The page of one event, from top to bottom: what, whose limit, who used it, where, when, advice.

Pure: text in, lines out. What an event does not tell has no line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from otel_oom.commands.console.page import Page
from otel_oom.commands.console.terminal import Terminal
from otel_oom.commands.history import labels
from otel_oom.commands.history.entry import Entry
from otel_oom.commands.history.page import candidates, limit, stacks, timeline, victim
from otel_oom.linux.vm_sysctl import describe_settings
from otel_oom.model.units import format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

__all__ = ["lines"]

_TITLES: Final = {
    semconv.EVENT_KILL: "OOM kill",
    semconv.EVENT_NO_VICTIM: "No memory, and nobody to kill",
    semconv.EVENT_PANIC: "Kernel panic for want of memory",
    semconv.EVENT_MISSED: "OOM kills that were missed",
}


def lines(entry: Entry, members: Sequence[Entry], terminal: Terminal) -> Iterator[str]:
    """The page of ``entry``; ``members`` are all that were killed with it, itself included."""
    layout, record = Page(terminal), entry.record
    title = _TITLES.get(record.name, record.name)
    yield from layout.paragraph(f"{title}, {labels.time_of(record.unix_ns)}", "bold", "red")
    yield ""
    yield from layout.paragraph(record.body)
    yield from victim.lines(record, layout)
    yield from _members(entry, members, layout)
    yield from limit.lines(record, layout)
    yield from candidates.lines(record, layout)
    yield from stacks.lines(record, layout)
    yield from timeline.lines(entry, layout)
    yield from _settings(record, layout)
    yield from _advice(record, layout)
    yield from _ids(record, layout)


def _members(entry: Entry, members: Sequence[Entry], layout: Page) -> Iterator[str]:
    if len(members) < 2:  # noqa: PLR2004  it alone
        return
    yield from layout.heading(f"Killed together (memory.oom.group): {len(members)}")
    rows = [
        (
            one.record.uid[:8],
            labels.victim(one.record),
            _resident(one.record),
            labels.outcome(one.record),
            one.record.attributes.text(semconv.MEMCG_PATH) or "-",
        )
        for one in members
    ]
    marked = frozenset(at for at, one in enumerate(members) if one.id == entry.id)
    heads = ("UID", "VICTIM", "RESIDENT", "OUTCOME", "CGROUP")
    yield from layout.table(heads, rows, right=frozenset({2}), marked=marked, flexible=(1,))


def _resident(record: DecodedEvent) -> str:
    parts = (semconv.MEMORY_ANON, semconv.MEMORY_FILE, semconv.MEMORY_SHMEM)
    held = [value for value in map(record.attributes.integer, parts) if value is not None]
    return format_bytes(sum(held)) if held else "-"


def _settings(record: DecodedEvent, layout: Page) -> Iterator[str]:
    values = record.attributes
    found = [
        *describe_settings(values.numbers(semconv.SYSCTL_VM), values.numbers(semconv.HOST_MEMORY))
    ]
    if not found:
        return
    yield from layout.heading("Settings in force")
    for one in found:
        yield from layout.paragraph(
            f"{one.name} = {one.value}: {one.sentence}", indent=2, hanging=2
        )


def _advice(record: DecodedEvent, layout: Page) -> Iterator[str]:
    advice = record.attributes.text(semconv.ADVICE)
    if advice:
        yield from layout.heading("What to do")
        yield from layout.paragraph(advice, "green", indent=2)


def _ids(record: DecodedEvent, layout: Page) -> Iterator[str]:
    values = record.attributes
    yield from layout.heading("Where to find it")
    yield from layout.row("uid", record.uid)
    yield from layout.row("trace", record.trace_id)
    yield from layout.row("span", record.span_id)
    told_by = (semconv.CAPTURE_SOURCE, semconv.CAPTURE_HOOK, semconv.DECISION_SOURCE)
    yield from layout.row("captured by", ", ".join(filter(None, map(values.text, told_by))))
    if values.values.get(semconv.CAPTURE_RECOVERED):
        yield from layout.row("", "recorded while no agent ran")
