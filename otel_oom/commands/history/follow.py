"""``otel-oom events --follow``: recent events, and each new one as the agent stores it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Final, NoReturn

from otel_oom.agent.control_client import ControlClient, open_control_client
from otel_oom.agent.control_server import ControlError, NoAgentError, send_request
from otel_oom.commands.history import queries
from otel_oom.commands.history.entry import Entry, decode_rows
from otel_oom.commands.history.events import print_json, read_recent, sort_entries
from otel_oom.commands.history.labels import format_time
from otel_oom.store import HistoryRow

_POLL_S: Final = 1.0


def follow_events(
    state_dir: Path, *, last: int | None, since: int | None, as_json: bool
) -> NoReturn:
    """Print events until interrupted; the first ones are those of :func:`.print_events`.

    The agent may end and start again. Meanwhile its store is left alone: opening it locks it.
    """
    with open_control_client(state_dir) as query:
        newest = next(queries.read_newest(query), None)
        rows = [row for row in read_recent(query, last, since) if not _is_after(row, newest)]
    _print(rows, since, as_json=as_json)
    while True:
        time.sleep(_POLL_S)
        try:
            rows = _read_new(partial(send_request, state_dir), newest)
        except (NoAgentError, ControlError, OSError):
            continue
        newest = rows[0] if rows else newest
        _print(rows, None, as_json=as_json)


def _read_new(query: ControlClient, newest: HistoryRow | None) -> list[HistoryRow]:
    rows = queries.read_newest(query)
    return list(takewhile(lambda row: _is_after(row, newest), rows))


def _is_after(row: HistoryRow, newest: HistoryRow | None) -> bool:
    # A damaged store is replaced, and begins with small ids again.
    return newest is None or row.id > newest.id or row.stored_unix_ns > newest.stored_unix_ns


def _print(rows: Iterable[HistoryRow], since: int | None, *, as_json: bool) -> None:
    entries, errors = decode_rows(rows)
    entries = sort_entries(entries, since)
    if as_json:
        print_json(entries)
    else:
        sys.stdout.writelines(f"{_format(entry)}\n" for entry in entries)
    sys.stdout.flush()
    sys.stderr.writelines(f"otel-oom: {error}\n" for error in errors)


def _format(entry: Entry) -> str:
    return f"{format_time(entry.event.unix_ns)}  {entry.event.body}"
