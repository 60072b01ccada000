"""The row of an event in a list."""

from __future__ import annotations

from typing import Final

from otel_oom.commands.elements import Head
from otel_oom.commands.history import labels
from otel_oom.commands.history.entry import Entry

EVENT_HEADS: Final = (
    *(Head("TIME", short=True), Head("UID", short=True)),
    *(Head("VICTIM", flexible=True), Head("OWNER", flexible=True)),
    *(Head("LIMIT", path=True), Head("OUTCOME"), Head("LOG")),
)


def event_cells(entry: Entry) -> tuple[str, ...]:
    """Return the cells of the event under :data:`EVENT_HEADS`."""
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
