"""BCC for tests: what it needs on this machine, and how its events are held against others'."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.model.events import CapturedEvent, NoVictim, OomKill, ReaperStep, VictimExit

_OWN: Final = ("capture.", "boottime_ns", "time_unix_ns", "incident", "tasks.boottime_ns")
"""Of the source itself, or of the instant at which it looks."""


def comparable_fields(event: CapturedEvent) -> dict[str, Any]:
    """What two sources must tell alike of one event, by names from the outside in.

    The decisions are those of two programs on one hook: their times differ, and hence what they
    belong to.
    """
    assert isinstance(event, OomKill | NoVictim | VictimExit | ReaperStep)
    return {name: value for name, value in _flat(to_builtins(event)) if not name.startswith(_OWN)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def count_open_files() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  only their number counts
