"""Handlers of the control socket: requests about the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from msgspec import to_builtins

from otel_oom.agent.control_server import Handlers, Request
from otel_oom.store import Store
from otel_oom.store.counters import EXCLUDED, NO_BOOT

_DEAD_LETTERS_PAGE: Final = 256


def store_handlers(
    store: Store,
    on_resend: Callable[[], None] = lambda: None,
    parked: Mapping[str, int] = MappingProxyType({}),
    off: Mapping[str, str] = MappingProxyType({}),
    processor_errors: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> Handlers:
    """Return the handlers of all requests about ``store``, by method.

    ``on_resend`` is called after dead letters were put back into the outbox. ``parked``
    and ``processor_errors`` are those of :class:`.Stats` of a running agent, and ``off`` is
    :attr:`.OtlpConfig.signals_off`.
    """
    history = store.history

    def resend(request: Request) -> int:
        count = store.dead_letters.resend(request["ids"])
        store.set_channels(store.channels)
        on_resend()
        return count

    def find(request: Request) -> list[int]:
        if request["by"] == "uid":
            return history.find_by_uid(request["value"])
        return (
            history.find_by_pid(request["value"])
            if request["by"] == "pid"
            else history.find_newest_kill()
        )

    return {
        "queue": lambda _: {
            "waiting": to_builtins(store.stats.backlogs()),
            "parked": dict(parked),
            "off": dict(off),
            "exporters": store.stats.exporters(store.channels),
            "excluded": _excluded(store),
            "processor_errors": [
                {"processor": name, "error_type": error_type, "count": count}
                for (name, error_type), count in list(processor_errors.items())
            ],
            "newest_dead_letter": store.dead_letters.newest_id(),
        },
        "dead_letters": lambda request: to_builtins(
            store.dead_letters.page(request["after"], _DEAD_LETTERS_PAGE)
        ),
        "resend": resend,
        "drop": lambda request: store.dead_letters.drop(request["ids"]),
        "history": lambda request: to_builtins(history.page_before(request["before"])),
        "history_of": lambda request: to_builtins(history.rows(request["ids"])),
        "find": find,
        "members": lambda request: list(
            history.find_incident_members(request["incident"], request["after"])
        ),
    }


def _excluded(store: Store) -> dict[str, int]:
    """Return the number of events that each variable and processor excluded."""
    return {
        name.removeprefix(EXCLUDED): count
        for name, count in store.counters(NO_BOOT).items()
        if name.startswith(EXCLUDED)
    }
