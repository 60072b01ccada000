"""Deduplication of events, also across files.

A host stores the same line in several logs: in one with its uptime, in another with the second
only. Two lines with uptimes are the same if these are. Otherwise their times must be as close as
clocks and zones of the logs allow: another kill nearly never has the same numbers in its line.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from otel_oom.commands.replay.events import Event
from otel_oom.commands.replay.timestamps import LOG
from otel_oom.model.units import NS_PER_S

_ZONES_NS: Final = 14 * 3600 * NS_PER_S
"""Largest difference between the zones of two logs."""
_DELAY_NS: Final = 120 * NS_PER_S
"""Largest difference between the delays of two programs that read the kernel's log."""
_SAME_NS: Final = 2 * NS_PER_S
"""Within this time, two lines without a process id are the same."""
_NUMBERS: Final = re.compile(r"process \d")


class _LineKey(Struct, frozen=True):
    since_boot_ns: int | None
    unix_ns: int
    has_zone: bool
    host: str


class Deduplicator:
    """Memory of events by the text of their lines; some 200 bytes for each."""

    def __init__(self) -> None:
        self._by_line: dict[str, list[_LineKey]] = {}
        self._uids: set[str] = set()

    def add(self, event: Event) -> bool:
        """Remember an event; return whether it is new."""
        if event.provenance is None or event.uid in self._uids:
            return False
        key = _LineKey(
            event.provenance.since_boot_ns,
            event.time_unix_ns,
            event.provenance.time_source == LOG,
            (event.provenance.host or "").partition(".")[0].lower(),
        )
        others = self._by_line.setdefault(event.provenance.line, [])
        tolerance_ns = None if _NUMBERS.search(event.provenance.line) else _SAME_NS
        if any(_is_same(key, other, tolerance_ns) for other in others):
            return False
        others.append(key)
        self._uids.add(event.uid)
        return True


def _is_same(key: _LineKey, other: _LineKey, tolerance_ns: int | None) -> bool:
    if key.host and other.host and key.host != other.host:
        return False
    if key.since_boot_ns is not None and other.since_boot_ns is not None:
        return key.since_boot_ns == other.since_boot_ns
    if tolerance_ns is None:
        tolerance_ns = _DELAY_NS if key.has_zone and other.has_zone else _ZONES_NS
    return abs(key.unix_ns - other.unix_ns) <= tolerance_ns
