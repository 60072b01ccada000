"""``otel-oom show``: one event as a page on the terminal or in HTML, or as OTLP/JSON lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_oom.agent.control_client import ControlClient, open_control_client
from otel_oom.commands.history import queries
from otel_oom.commands.history.entry import Entry, decode_rows, entry_from_row
from otel_oom.commands.history.page_output import print_or_write
from otel_oom.model.text import escape_for_terminal
from otel_oom.otlp import semconv
from otel_oom.otlp.json import to_json_line

LAST: Final = "last"

_UID: Final = re.compile(r"[0-9a-f-]{1,36}")
_PID: Final = re.compile(r"[0-9]{1,10}")
_MAX_GROUP: Final = 256
_MAX_UIDS: Final = 5


class NoSuchEventError(Exception):
    """No event matches, or several do; the message says what to do."""


def show_event(state_dir: Path, id_: str, *, as_json: bool, html: str | None = None) -> int:
    """Print the event of ``id_``: the beginning of a uid, a process id, or ``last``.

    With ``html``, write it to this file. Raises NoSuchEventError, UndecodableEventError or
    StoreError.
    """
    with open_control_client(state_dir) as query:
        entry = _entry(query, id_)
        group = _group(query, entry)
    if as_json:
        requests = [request for request in (entry.log, entry.span) if request is not None]
        sys.stdout.writelines(f"{to_json_line(request)}\n" for request in requests)
        return 0
    from otel_oom.commands.history.page import describe_event  # noqa: PLC0415  not for --json

    return print_or_write(describe_event(entry, group), html)


def _entry(query: ControlClient, id_: str) -> Entry:
    ids = queries.find_ids(query, "newest") if id_ == LAST else _matches(query, id_)
    if not ids:
        raise NoSuchEventError(
            "No OOM kills recorded. Start the agent with: otel-oom run. "
            "Other events, if there are any, are listed by: otel-oom events"
        )
    rows = queries.read_rows(query, ids[:1])
    if not rows:
        raise NoSuchEventError("The event was just pruned. Run: otel-oom events")
    return entry_from_row(rows[0])


def _matches(query: ControlClient, id_: str) -> Sequence[int]:
    """Return the row id of the event; of several kills of a process id the newest comes first."""
    if _PID.fullmatch(id_):
        by_pid = queries.find_ids(query, "pid", int(id_))
        if len(by_pid) > 1:
            sys.stderr.write(
                f"{len(by_pid)} kills had the process id {id_}; this is the newest. "
                "Show the others by their uids: see otel-oom events.\n"
            )
        if by_pid:
            return by_pid
    prefix = id_.strip().lower()
    by_uid = queries.find_ids(query, "uid", prefix) if _UID.fullmatch(prefix) else []
    if len(by_uid) > 1:
        uids = [row.uid for row in queries.read_rows(query, by_uid[:_MAX_UIDS])]
        more = ", …" if len(by_uid) > len(uids) else ""
        raise NoSuchEventError(
            f"{len(by_uid)} events begin with {id_}: {', '.join(uids)}{more}. Give more of the uid."
        )
    if not by_uid:
        raise NoSuchEventError(
            f"No event has the uid or the process id {escape_for_terminal(id_)}. "
            "Run otel-oom events for a list. Delivered events are kept for "
            "OTEL_OOM_STORE_MAX_AGE, 30 days by default."
        )
    return by_uid


def _group(query: ControlClient, entry: Entry) -> list[Entry]:
    """Return all victims of the event's decision in their order, itself included."""
    event = entry.event
    incident = event.attributes.text(semconv.INCIDENT_ID)
    if event.name != semconv.EVENT_KILL or incident is None:
        return [entry]
    leader = [entry.id] if incident == event.uid else queries.find_ids(query, "uid", incident)
    # If the first victim was pruned, those before this one are not searched for.
    ids = leader[:1] + queries.find_group(query, incident, min([*leader, entry.id]))
    if len(ids) == 1:
        return [entry]
    group, errors = decode_rows(queries.read_rows(query, sorted({entry.id, *ids[:_MAX_GROUP]})))
    sys.stderr.writelines(f"otel-oom: {error}\n" for error in errors)
    return group
