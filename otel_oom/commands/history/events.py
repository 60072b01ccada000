"""``otel-oom events``: the host's recent events, the newest last."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final

from otel_oom.agent.control_client import ControlClient, open_control_client
from otel_oom.commands.console.terminal import Terminal
from otel_oom.commands.history import queries, table
from otel_oom.commands.history.entry import Entry, UnreadableError, entry_of
from otel_oom.otlp.json import to_json_line
from otel_oom.store import HistoryRow

LAST: Final = 20
"""So many are shown where nobody says how many, nor since when."""


def events(state_dir: Path, *, last: int | None, since: int | None, as_json: bool) -> int:
    """Print the ``last`` events, or all ``since`` then; 1 if some of them can't be read."""
    with open_control_client(state_dir) as ask:
        rows = _rows(ask, last if last is not None or since is not None else LAST, since)
    found, unreadable = _entries(rows)
    if since is not None:
        found = [entry for entry in found if entry.record.unix_ns >= since]
    found.sort(key=lambda entry: entry.record.unix_ns)
    _print(found, as_json=as_json)
    for sentence in unreadable:
        sys.stderr.write(f"otel-oom: {sentence}\n")
    return int(bool(unreadable))


def _rows(ask: ControlClient, last: int | None, since: int | None) -> list[HistoryRow]:
    """The newest rows; what was stored before ``since`` was no later than that."""
    rows: Iterable[HistoryRow] = islice(queries.newest(ask), last)
    if since is None:
        return list(rows)
    found = []
    for row in rows:
        if row.stored_unix_ns < since:
            break
        found.append(row)
    return found


def _entries(rows: Iterable[HistoryRow]) -> tuple[list[Entry], list[str]]:
    found, unreadable = [], []
    for row in rows:
        try:
            found.append(entry_of(row))
        except UnreadableError as error:
            unreadable.append(str(error))
    return found, unreadable


def _print(found: list[Entry], *, as_json: bool) -> None:
    if as_json:
        for entry in found:
            sys.stdout.write(to_json_line(entry.log) + "\n")
        return
    if not found:
        sys.stdout.write("No OOM kill is in the journal of this host.\n")
        return
    for text in table.lines(found, Terminal.of(sys.stdout)):
        sys.stdout.write(text + "\n")
    sys.stdout.write("\notel-oom show UID (or PID, or last) tells the whole story of one.\n")
