"""The list of events as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType

from otel_oom.commands.console.page import Head, table
from otel_oom.commands.history import labels
from otel_oom.commands.history.entry import Entry
from otel_oom.otlp import semconv

_HEADS: Final = (
    *(Head("TIME"), Head("UID"), Head("VICTIM", flexible=True), Head("OWNER", flexible=True)),
    *(Head("LIMIT", path=True), Head("OUTCOME"), Head("LOG")),
)
_STYLES: Final = {
    semconv.EVENT_PANIC: "red",
    semconv.EVENT_MISSED: "red",
    semconv.EVENT_DROPPED: "red",
    semconv.EVENT_NO_VICTIM: "yellow",
}


def render_events(entries: Sequence[Entry]) -> RenderableType:
    """Return the events in the given order, one on a line."""
    styles = {n: _STYLES.get(entry.event.name, "") for n, entry in enumerate(entries)}
    return table(_HEADS, [_cells(entry) for entry in entries], styles)


def _cells(entry: Entry) -> tuple[str, ...]:
    event = entry.event
    return (
        labels.format_time(event.unix_ns),
        event.uid[: labels.UID_CHARS],
        labels.victim_label(event),
        labels.owner_label(event),
        labels.limit_label(event),
        labels.outcome_label(event),
        labels.status_label(entry.log_status),
    )
