"""Comparison of the events of BCC with those of libbpf."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.model.events import CapturedEvent, NoVictim, OomKill, ReaperStep, VictimExit

_SOURCE_FIELDS: Final = (
    *("capture.", "boottime_ns", "time_unix_ns", "incident", "tasks.boottime_ns"),
    *("victim.start", "mappings"),
)
"""Fields about the source itself, or about the time at which it reads /proc.

Only libbpf's source copies what a victim was started with, and lists its mappings.
"""


def comparable_fields(event: CapturedEvent) -> dict[str, Any]:
    """Return those fields of an event that must be equal in both sources, by their full names.

    Decisions are recorded by two programs on one hook: their times differ, and with them the
    incident.
    """
    assert isinstance(event, OomKill | NoVictim | VictimExit | ReaperStep)
    return {
        name: value
        for name, value in _flatten(to_builtins(event))
        if not name.startswith(_SOURCE_FIELDS) or name == "victim.start_boottime_ns"
    }


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flatten(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def count_open_files() -> int:
    """Return the number of open files of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  only their number counts
