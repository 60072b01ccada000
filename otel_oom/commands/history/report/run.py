"""Run ``otel-oom report``: read the history, then print, write or encode its summary."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from otel_oom.agent.control_client import open_control_client
from otel_oom.commands.history import labels, queries
from otel_oom.commands.history.entry import UndecodableEventError, entry_from_row
from otel_oom.commands.history.event_row import event_cells
from otel_oom.commands.history.page_output import print_or_write
from otel_oom.commands.history.report.page import describe_report
from otel_oom.commands.history.report.repeats import count_in_an_hour
from otel_oom.commands.history.report.summary import KillGroup, Summary
from otel_oom.model.units import NS_PER_S
from otel_oom.store import HistoryRow

_MAX_LISTED: Final = 100
_MAX_OLD: Final = 64
"""Rows of an earlier time in a row, behind which no later ones are looked for."""


def print_report(state_dir: Path, since_ns: int, *, as_json: bool, html: str | None) -> int:
    """Print the report of the events from ``since_ns`` on; return 1 if some can't be decoded.

    With ``html``, write it to this file; return 1 if that fails. Raises StoreError.
    """
    summary = Summary(since_ns, time.time_ns())
    newest: list[tuple[str, ...]] = []
    errors = 0
    with open_control_client(state_dir) as query:
        for row in stored_since(queries.read_newest(query), since_ns):
            try:
                entry = entry_from_row(row)
            except UndecodableEventError as error:
                sys.stderr.write(f"otel-oom: {error}\n")
                errors += 1
                continue
            if entry.event.unix_ns >= since_ns:
                summary.add(entry.event)
                if len(newest) < _MAX_LISTED:
                    newest.append(event_cells(entry))
    if as_json:
        sys.stdout.write(json.dumps(encode_summary(summary), indent=2) + "\n")
        return int(bool(errors))
    return print_or_write(describe_report(summary, sorted(newest)), html) or int(bool(errors))


def stored_since(rows: Iterable[HistoryRow], since_ns: int) -> Iterator[HistoryRow]:
    """Yield the rows that were stored since then, newest first: an event occurs before.

    A host without a battery for its clock may store some with a time of long ago.
    """
    old_count = 0
    for row in rows:
        if row.stored_unix_ns >= since_ns:
            old_count = 0
            yield row
        elif (old_count := old_count + 1) == _MAX_OLD:
            return


def encode_summary(summary: Summary) -> dict[str, Any]:
    """Return the summary as plain JSON."""
    return {
        "since": labels.format_time(summary.since_ns),
        "until": labels.format_time(summary.until_ns),
        "host": summary.host,
        "kills": summary.kill_count,
        "outcomes": dict(summary.outcomes),
        "other_events": dict(summary.other_events),
        "hours": {
            labels.format_time(hour * NS_PER_S): count
            for hour, count in sorted(summary.hours.items())
        },
        "services": [
            {"service": service, **_encode_group(group)}
            for service, group in summary.services.items()
        ],
        "limits": [
            {"owner": owner, "limit_bytes": size, **_encode_group(group)}
            for (owner, size), group in summary.limits.items()
        ],
        "repeats": list(_encode_repeats(summary)),
    }


def _encode_repeats(summary: Summary) -> Iterator[dict[str, Any]]:
    for (owner, comm), group in summary.repeats.items():
        if group.count > 1:
            in_an_hour = count_in_an_hour(sorted(group.times_ns))
            yield {
                "owner": owner,
                "victim": comm,
                **_encode_group(group),
                "most_in_an_hour": in_an_hour,
            }


def _encode_group(group: KillGroup) -> dict[str, Any]:
    return {
        "kills": group.count,
        "first": labels.format_time(min(group.times_ns)),
        "last": labels.format_time(max(group.times_ns)),
        "largest_bytes": group.largest_bytes,
    }
