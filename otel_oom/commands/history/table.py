"""The list of events as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType

from otel_oom.commands.console.page import table
from otel_oom.commands.history.entry import Entry
from otel_oom.commands.history.event_row import EVENT_HEADS, event_cells
from otel_oom.otlp import semconv

_STYLES: Final = {
    semconv.EVENT_PANIC: "red",
    semconv.EVENT_MISSED: "red",
    semconv.EVENT_DROPPED: "red",
    semconv.EVENT_NO_VICTIM: "yellow",
    semconv.EVENT_NEAR_LIMIT: "yellow",
}


def render_events(entries: Sequence[Entry]) -> RenderableType:
    """Return the events in the given order, one on a line."""
    styles = {n: _STYLES.get(entry.event.name, "") for n, entry in enumerate(entries)}
    return table(EVENT_HEADS, [event_cells(entry) for entry in entries], styles)
