"""Handlers of the control socket: requests about the store, answered in JSON."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from otel_oom.agent.control_server import Answers, Request
from otel_oom.store import HistoryRow, Store

BYTES_FIELDS: Final = ("log", "span")
"""Fields of a history row that travel in base64."""

_DEAD_LETTERS_PAGE: Final = 256


def store_handlers(store: Store, on_resend: Callable[[], None] = lambda: None) -> Answers:
    """Return the handlers of all requests about ``store``.

    ``on_resend`` is called when dead letters were put back into the outbox.
    """
    history = store.history

    def resend(request: Request) -> int:
        count = store.resend(request["ids"])
        on_resend()
        return count

    def find(request: Request) -> list[int]:
        if request["by"] == "uid":
            return history.by_uid(request["value"])
        return history.by_pid(request["value"]) if request["by"] == "pid" else history.newest_kill()

    return {
        "queue": lambda _: {
            "waiting": [asdict(backlog) for backlog in store.backlogs()],
            "newest_dead_letter": store.newest_dead_letter(),
        },
        "dead_letters": lambda request: [
            asdict(letter) for letter in store.dead_letters(request["after"], _DEAD_LETTERS_PAGE)
        ],
        "resend": resend,
        "drop": lambda request: store.drop(request["ids"]),
        "history": lambda request: _to_json(history.before(request["before"])),
        "history_of": lambda request: _to_json(history.of_ids(request["ids"])),
        "find": find,
        "members": lambda request: list(history.members(request["incident"], request["after"])),
    }


def _to_json(rows: Sequence[HistoryRow]) -> list[dict[str, Any]]:
    return [
        {
            name: _text(value) if name in BYTES_FIELDS else value
            for name, value in asdict(row).items()
        }
        for row in rows
    ]


def _text(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode("ascii")
