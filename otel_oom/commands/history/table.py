"""The list of events as a table; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from otel_oom.commands.console.terminal import Terminal, cells, cut, fitted, padded, printable
from otel_oom.commands.history import labels
from otel_oom.commands.history.entry import Entry
from otel_oom.otlp import semconv

_HEADS: Final = ("TIME", "UID", "VICTIM", "WHOSE", "LIMIT", "OUTCOME", "LOG")
_FLEXIBLE: Final = (4, 3, 2)
"""Columns that may be cut where the table is too wide, the first first."""
_LIMIT: Final = 4
"""Begins with a path, which ends in what tells."""
_LEAST: Final = 10
_UID_CHARS: Final = 8
"""Enough for `show` to know which."""
_GAP: Final = 2


def lines(entries: Sequence[Entry], terminal: Terminal) -> Iterator[str]:
    """The events in the order that they are given, a line each, under a line of heads."""
    rows = [_HEADS, *map(_row, entries)]
    natural = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    room = terminal.width - _GAP * (len(natural) - 1)
    widths = fitted(natural, room, _FLEXIBLE, _LEAST)
    for number, row in enumerate(rows):
        cut_ = [
            cut(text, width, front=at == _LIMIT)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = cut((" " * _GAP).join(map(padded, cut_, widths)).rstrip(), terminal.width)
        if number == 0:
            yield terminal.styled(line, "bold")
        else:
            yield terminal.styled(line, *_style(entries[number - 1]))


def _row(entry: Entry) -> tuple[str, ...]:
    record = entry.record
    told = (
        *(labels.time_of(record.unix_ns), record.uid[:_UID_CHARS], labels.victim(record)),
        *(labels.whose(record), labels.limit(record), labels.outcome(record)),
        labels.fate(entry.log_fate),
    )
    return tuple(map(printable, told))


def _style(entry: Entry) -> tuple[str, ...]:
    name = entry.record.name
    if name in {semconv.EVENT_PANIC, semconv.EVENT_MISSED}:
        return ("red",)
    return ("yellow",) if name == semconv.EVENT_NO_VICTIM else ()
