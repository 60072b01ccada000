"""Queries of the event log, by the agent's control socket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import convert

from otel_oom.agent.control_client import ControlClient
from otel_oom.store import HistoryRow
from otel_oom.store.history import PAGE

_APART: Final = 2
"""What one decision killed is stored together: so many looks without any of it end the search."""


def newest(ask: ControlClient) -> Iterator[HistoryRow]:
    """Every event of the journal, the newest first."""
    before: int | None = None
    while rows := _rows(ask({"method": "history", "before": before})):
        yield from rows
        before = rows[-1].id


def of_uid(ask: ControlClient, prefix: str) -> list[int]:
    """The ids of the events whose uid begins with ``prefix``: some, the newest first."""
    return list(ask({"method": "find", "by": "uid", "value": prefix}))


def of_pid(ask: ControlClient, pid: int) -> list[int]:
    """The ids of the kills of that process id: some, the newest first."""
    return list(ask({"method": "find", "by": "pid", "value": pid}))


def newest_kill(ask: ControlClient) -> list[int]:
    """The id of the newest kill, if there is one."""
    return list(ask({"method": "find", "by": "newest"}))


def rows_of(ask: ControlClient, ids: Sequence[int]) -> list[HistoryRow]:
    """The events of some ids, in this order; less those that have gone meanwhile."""
    found: list[HistoryRow] = []
    left = list(ids)
    while left:
        page = left[:PAGE]
        rows = _rows(ask({"method": "history_of", "ids": page}))
        found += rows
        # An answer may have room for some of them alone.
        left = left[page.index(rows[-1].id) + 1 if rows else len(page) :]
    return found


def members(ask: ControlClient, incident: str, after: int) -> list[int]:
    """The ids of what was killed along with the event of the uid ``incident``, past an id."""
    found: list[int] = []
    nothing, at = 0, after
    while nothing < _APART:
        ids, going_on = ask({"method": "members", "incident": incident, "after": at})
        found += ids
        if going_on is None:
            break
        nothing, at = 0 if ids else nothing + 1, going_on
    return found


def _rows(answer: Any) -> list[HistoryRow]:  # noqa: ANN401  JSON
    return convert(answer, list[HistoryRow])
