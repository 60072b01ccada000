"""``otel-oom events``: the recent events of the host, the newest last."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final

from otel_oom.agent.control_client import ControlClient, open_control_client
from otel_oom.commands.history import queries
from otel_oom.commands.history.entry import Entry, decode_rows
from otel_oom.otlp.json import to_json_line
from otel_oom.store import HistoryRow

DEFAULT_COUNT: Final = 20


def print_events(state_dir: Path, *, last: int | None, since: int | None, as_json: bool) -> int:
    """Print the newest events; return 1 if some of them can't be decoded.

    ``last`` is their largest number, ``since`` the Unix time in nanoseconds of the oldest.
    """
    with open_control_client(state_dir) as query:
        rows = read_recent(query, last, since)
    entries, errors = decode_rows(rows)
    entries = sort_entries(entries, since)
    if as_json:
        print_json(entries)
    else:
        _print_table(entries)
    sys.stderr.writelines(f"otel-oom: {error}\n" for error in errors)
    return int(bool(errors))


def print_json(entries: Iterable[Entry]) -> None:
    """Print the log of each event as a line of OTLP/JSON."""
    sys.stdout.writelines(f"{to_json_line(entry.log)}\n" for entry in entries)


def sort_entries(entries: Iterable[Entry], since: int | None) -> list[Entry]:
    """Return the events from ``since`` on, the newest last."""
    recent = (entry for entry in entries if since is None or entry.event.unix_ns >= since)
    return sorted(recent, key=lambda entry: entry.event.unix_ns)


def read_recent(query: ControlClient, last: int | None, since: int | None) -> list[HistoryRow]:
    """Return the events that :func:`print_events` prints, the newest first."""
    if last is None and since is None:
        last = DEFAULT_COUNT
    rows: Iterable[HistoryRow] = islice(queries.read_newest(query), last)
    if since is None:
        return list(rows)
    recent = []
    for row in rows:
        # An event occurred before it was stored.
        if row.stored_unix_ns < since:
            break
        recent.append(row)
    return recent


def _print_table(entries: list[Entry]) -> None:
    if not entries:
        sys.stdout.write("No OOM kills recorded.\n")
        return
    # rich is only for a person: it takes 30 ms and 5 MB.
    from otel_oom.commands.console.output import print_page  # noqa: PLC0415
    from otel_oom.commands.history.table import render_events  # noqa: PLC0415

    print_page([render_events(entries), "", "Details of one: otel-oom show UID (or PID, or last)"])
