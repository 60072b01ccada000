"""Deduplication of events, also across files.

A host stores the same line in several logs: in one with its uptime, in another with the second
only. Two lines with uptimes are the same if these are. Otherwise their times must be as close as
clocks and zones of the logs allow: another kill nearly never has the same numbers in its line.

A kill by the line that precedes it, or by one without sizes, is a duplicate of one of the same
process within 2 s.

An unverified event is a duplicate of any, and no verified one is a duplicate of it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from otel_oom.commands.replay.events import Event
from otel_oom.commands.replay.timestamps import LOG
from otel_oom.model.events import OomKill
from otel_oom.model.types import LogProvenance
from otel_oom.model.units import NS_PER_S

_ZONES_NS: Final = 14 * 3600 * NS_PER_S
"""Largest difference between the zones of two logs."""
_DELAY_NS: Final = 120 * NS_PER_S
"""Largest difference between the delays of two programs that read the kernel's log."""
_SAME_NS: Final = 2 * NS_PER_S
"""Within this time, two lines without a process id are the same."""
_NUMBERS: Final = re.compile(r"process \d")
_MAX_KEYS: Final = 1 << 19
"""Keys in memory, each of some 300 bytes: those of the last 75,000 events, and 150 MB."""
_ANY: Final = None
"""In place of a host: the times of all hosts, for a line without one."""

_Key = tuple[object, ...]


class Deduplicator:
    """Memory of events by the text of their lines, as hashes."""

    def __init__(self) -> None:
        self._spans: OrderedDict[int, tuple[int, int]] = OrderedDict()
        """The first and the last time in each interval, by the hash of its key."""

    def add(self, event: Event) -> bool:
        """Remember an event; return whether it is new."""
        provenance = event.provenance
        if provenance is None or hash(event.uid) in self._spans:
            return False
        times = _LineTimes(provenance, event.time_unix_ns)
        victim = _victim_times(event, provenance)
        queries = [*times.queries(), *(victim.queries() if victim and _is_bare(event) else ())]
        if any(self._has_time_near(*query) for query in queries):
            return False
        self._add_span(hash(event.uid), 0)
        for key, time_ns in (*times.stored_keys(), *(victim.stored_keys() if victim else ())):
            self._add_span(hash(key), time_ns)
        return True

    def _has_time_near(self, key: _Key, time_ns: int, tolerance_ns: int) -> bool:
        """Return whether a time is known that differs by at most the tolerance."""
        if not tolerance_ns:
            return hash(key) in self._spans
        interval = time_ns // tolerance_ns
        spans = [
            self._spans.get(hash((*key, number)), (time_ns - tolerance_ns - 1,) * 2)
            for number in (interval - 1, interval, interval + 1)
        ]
        return any(abs(time_ns - other_ns) <= tolerance_ns for span in spans for other_ns in span)

    def _add_span(self, key: int, time_ns: int) -> None:
        first, last = self._spans.pop(key, (time_ns, time_ns))
        if len(self._spans) >= _MAX_KEYS:
            self._spans.popitem(last=False)
        self._spans[key] = min(first, time_ns), max(last, time_ns)


def _is_bare(event: Event) -> bool:
    """Return whether a kill is known by the line before it alone, or by one without sizes."""
    return isinstance(event, OomKill) and event.memory is None


def _victim_times(event: Event, provenance: LogProvenance) -> _LineTimes | None:
    """Return the times of a kill's victim: two lines about it are seldom printed at once."""
    if not isinstance(event, OomKill) or event.victim.tgid is None:
        return None
    line = f"{event.victim.tgid} {event.victim.comm}"
    return _LineTimes(replace(provenance, line=line, since_boot_ns=None), event.time_unix_ns)


class _LineTimes:
    """The times of an event's line, as keys of what is known and of what makes it a duplicate.

    A key has the line, whether the event is verified, the host, and either the uptime, or the width
    of an interval of time and its number.
    """

    def __init__(self, provenance: LogProvenance, unix_ns: int) -> None:
        self._line = provenance.line
        self._is_unverified = provenance.is_unverified
        self._since_boot_ns = provenance.since_boot_ns
        self._unix_ns = unix_ns
        self._has_zone = provenance.time_source == LOG
        self._host = (provenance.host or "").partition(".")[0].lower()
        has_numbers = _NUMBERS.search(self._line) is not None
        self._widths_ns = (_DELAY_NS, _ZONES_NS) if has_numbers else (_SAME_NS,)

    def stored_keys(self) -> Iterator[tuple[_Key, int]]:
        """Yield the keys to remember, each with its time."""
        has_uptime = self._since_boot_ns is not None
        for host in (self._host, _ANY):
            key = (self._line, self._is_unverified, host)
            if has_uptime:
                yield (*key, self._since_boot_ns), 0
            for width_ns in self._widths_ns:
                if width_ns != _DELAY_NS or self._has_zone:
                    number = self._unix_ns // width_ns
                    yield (*key, has_uptime, self._has_zone, width_ns, number), self._unix_ns

    def queries(self) -> Iterator[tuple[_Key, int, int]]:
        """Yield key, time and tolerance of each of the times that make it a duplicate."""
        has_uptime = self._since_boot_ns is not None
        for is_unverified in (False, True) if self._is_unverified else (False,):
            for host in (self._host, "") if self._host else (_ANY,):
                key = (self._line, is_unverified, host)
                if has_uptime:
                    yield (*key, self._since_boot_ns), 0, 0
                for other_has_uptime in (False,) if has_uptime else (False, True):
                    for has_zone in (False, True):
                        is_exact = has_zone and self._has_zone
                        width_ns = self._widths_ns[0 if is_exact else -1]
                        between = (*key, other_has_uptime, has_zone, width_ns)
                        yield between, self._unix_ns, width_ns
