"""Queries of the event log, by the agent's control socket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import convert

from otel_oom.agent.control_client import ControlClient
from otel_oom.store import HistoryRow
from otel_oom.store.history import PAGE

_MAX_EMPTY_PAGES: Final = 2
"""Victims of one decision are stored close together; the search ends after so many pages."""


def read_newest(query: ControlClient) -> Iterator[HistoryRow]:
    """Yield every event, the newest first."""
    before: int | None = None
    while rows := convert(query({"method": "history", "before": before}), list[HistoryRow]):
        yield from rows
        before = rows[-1].id


def find_ids(query: ControlClient, by: str, value: str | int | None = None) -> list[int]:
    """Return row ids, the newest first: of kills by ``pid``, or of the ``newest`` kill.

    By ``uid``, of all events whose uid begins with ``value``.
    """
    return list(query({"method": "find", "by": by, "value": value}))


def read_rows(query: ControlClient, ids: Sequence[int]) -> list[HistoryRow]:
    """Return the events of ``ids`` in this order, without those pruned in the meantime."""
    result: list[HistoryRow] = []
    remaining = list(ids)
    while remaining:
        page = remaining[:PAGE]
        rows = convert(query({"method": "history_of", "ids": page}), list[HistoryRow])
        result += rows
        # The size of a response is limited: it may have only some of them.
        remaining = remaining[page.index(rows[-1].id) + 1 if rows else len(page) :]
    return result


def find_group(query: ControlClient, incident: str, after: int) -> list[int]:
    """Return row ids above ``after`` of the victims of one decision, by its incident id."""
    group: list[int] = []
    empty_pages = 0
    next_id: int | None = after
    while next_id is not None and empty_pages < _MAX_EMPTY_PAGES:
        ids, next_id = query({"method": "members", "incident": incident, "after": next_id})
        group += ids
        empty_pages = 0 if ids else empty_pages + 1
    return group
