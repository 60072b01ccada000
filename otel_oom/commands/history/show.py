"""``otel-oom show``: the whole story of one kill, as a page or as OTLP/JSON lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_oom.agent.control_client import ControlClient, open_control_client
from otel_oom.commands.console.terminal import Terminal, printable
from otel_oom.commands.history import page, queries
from otel_oom.commands.history.entry import Entry, UnreadableError, entry_of
from otel_oom.otlp import semconv
from otel_oom.otlp.json import to_json_line

LAST: Final = "last"
_UID: Final = re.compile(r"[0-9a-f-]{1,36}")
_MOST_MEMBERS: Final = 256
_MOST_NAMED: Final = 5


class NoSuchEventError(Exception):
    """The journal has no such event, or several; the message says what to do."""


def show(state_dir: Path, which: str, *, as_json: bool) -> int:
    """Print the event that ``which`` names: a uid's beginning, a process id, or ``last``.

    Raises:
        NoSuchEventError: there is none, or it is not clear which.
        UnreadableError: this version can't read it.
        StoreError: the state can't be read.
    """
    with open_control_client(state_dir) as ask:
        entry = _entry(ask, which)
        members = _members(ask, entry)
    if as_json:
        for request in (entry.log, entry.span):
            if request is not None:
                sys.stdout.write(to_json_line(request) + "\n")
        return 0
    for text in page.lines(entry, members, Terminal.of(sys.stdout)):
        sys.stdout.write(text + "\n")
    return 0


def _entry(ask: ControlClient, which: str) -> Entry:
    ids: Sequence[int]
    if which == LAST:
        ids = queries.newest_kill(ask)
        if not ids:
            raise NoSuchEventError(
                "No OOM kill is in the journal of this host. Those that the agent captures are: "
                "otel-oom run. Other events, if there are any, are told by otel-oom events."
            )
    else:
        ids = _ids(ask, which)
    rows = queries.rows_of(ask, ids[:1])
    if not rows:
        raise NoSuchEventError("The event has just been let go of: see otel-oom events.")
    return entry_of(rows[0])


def _ids(ask: ControlClient, which: str) -> Sequence[int]:
    """The one event that is meant; of several kills of a process id the newest."""
    if which.isascii() and which.isdecimal() and len(which) < 11:  # noqa: PLR2004  a process id
        of_pid = queries.of_pid(ask, int(which))
        if len(of_pid) > 1:
            sys.stderr.write(
                f"{len(of_pid)} kills had the process id {which}; this is the newest. "
                "The others are shown by their UIDs: see otel-oom events.\n"
            )
        if of_pid:
            return of_pid
    prefix = which.strip().lower()
    found = queries.of_uid(ask, prefix) if _UID.fullmatch(prefix) else []
    if len(found) > 1:
        uids = [row.uid for row in queries.rows_of(ask, found[:_MOST_NAMED])]
        more = ", …" if len(found) > len(uids) else ""
        raise NoSuchEventError(
            f"{len(found)} events begin with {which}: {', '.join(uids)}{more}. Give more of it."
        )
    if not found:
        raise NoSuchEventError(
            f"No event of this journal has the uid or the process id {printable(which)}. "
            "otel-oom events lists what there is; what was delivered is kept for "
            "OTEL_OOM_STORE_MAX_AGE, 30 days by default."
        )
    return found


def _members(ask: ControlClient, entry: Entry) -> list[Entry]:
    """All that were killed by the same decision, in their order, itself included."""
    record = entry.record
    incident = record.attributes.text(semconv.INCIDENT_ID)
    if record.name != semconv.EVENT_KILL or incident is None:
        return [entry]
    leader = [entry.id] if incident == record.uid else queries.of_uid(ask, incident)
    # Where the first of them has gone, those before this one are not looked for.
    ids = leader[:1] + queries.members(ask, incident, min([*leader, entry.id]))
    if len(ids) == 1:
        return [entry]
    members = []
    for row in queries.rows_of(ask, sorted({entry.id, *ids[:_MOST_MEMBERS]})):
        try:
            members.append(entry_of(row))
        except UnreadableError as error:
            sys.stderr.write(f"otel-oom: {error}\n")
    return members
