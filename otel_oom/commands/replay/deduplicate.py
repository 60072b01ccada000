"""Which events were told before, whatever file they were found in.

A host keeps the same line in several logs: with its uptime in one, with the second alone in
another. Two that have an uptime are the same if that is; else if their times are as close as the
logs' clocks and zones allow, for the numbers in the line are nearly never those of another kill.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from otel_oom.commands.replay.events import Event
from otel_oom.commands.replay.timestamps import LOG

_ZONES_NS: Final = 14 * 3600 * 1_000_000_000
"""By so much the zone of a log may be another than that of who reads it."""
_LATE_NS: Final = 120 * 1_000_000_000
"""By so much one writer of logs may read the kernel's later than another."""
_SAME_NS: Final = 2 * 1_000_000_000
"""Within that time two lines that anybody's decision has are taken for one."""
_NUMBERS: Final = re.compile(r"process \d")


@dataclass(frozen=True, slots=True)
class _Known:
    uid: str
    since_boot_ns: int | None
    unix_ns: int
    has_zone: bool
    host: str


class Deduplicator:
    """Remembers events by what the kernel's lines say of them; some 200 bytes for each."""

    def __init__(self) -> None:
        """Begin with none."""
        self._by_line: dict[str, list[_Known]] = {}
        self._uids: set[str] = set()

    def add(self, event: Event) -> bool:
        """Remember an event; whether it is news."""
        if event.provenance is None or event.uid in self._uids:
            return False
        one = _Known(
            event.uid,
            event.provenance.since_boot_ns,
            event.time_unix_ns,
            event.provenance.time_source == LOG,
            _short(event.provenance.host),
        )
        others = self._by_line.setdefault(event.provenance.line, [])
        tolerance_ns = None if _NUMBERS.search(event.provenance.line) else _SAME_NS
        if any(_same(one, other, tolerance_ns) for other in others):
            return False
        others.append(one)
        self._uids.add(one.uid)
        return True


def _short(host: str | None) -> str:
    return (host or "").partition(".")[0].lower()


def _same(one: _Known, other: _Known, tolerance_ns: int | None) -> bool:
    if one.host and other.host and one.host != other.host:
        return False
    if one.since_boot_ns is not None and other.since_boot_ns is not None:
        return one.since_boot_ns == other.since_boot_ns
    if tolerance_ns is None:
        tolerance_ns = _LATE_NS if one.has_zone and other.has_zone else _ZONES_NS
    return abs(one.unix_ns - other.unix_ns) <= tolerance_ns
