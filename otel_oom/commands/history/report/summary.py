"""Kills of a time, counted by service, limit, hour and outcome."""

from __future__ import annotations

from collections import Counter
from typing import Final

from msgspec import Struct, field

from otel_oom.commands.history import labels
from otel_oom.commands.history.page.victim import resident_bytes
from otel_oom.commands.history.report.repeats import repeat_key
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

HOUR_S: Final = 3600

_COUNTS: Final = {
    semconv.EVENT_MISSED: semconv.MISSED_COUNT,
    semconv.EVENT_DROPPED: semconv.DROPPED_COUNT,
}


class KillGroup(Struct):
    """Kills that have something in common; times are in nanoseconds of Unix time."""

    times_ns: list[int] = []
    largest_bytes: int | None = None

    @property
    def count(self) -> int:
        """The number of kills."""
        return len(self.times_ns)

    def add(self, event: DecodedEvent) -> None:
        """Count a kill."""
        self.times_ns.append(event.unix_ns)
        size = resident_bytes(event)
        if size is not None:
            self.largest_bytes = max(size, self.largest_bytes or 0)


class Summary(Struct):
    """The kills from ``since_ns`` to ``until_ns``, in nanoseconds of Unix time.

    ``hours`` is by the first second of the hour; ``limits`` by owner and bytes, ``None`` for one
    without a size; ``repeats`` by owner and thread name; ``other_events`` by the event's name.
    """

    since_ns: int
    until_ns: int
    host: str = ""
    kill_count: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    other_events: Counter[str] = field(default_factory=Counter)
    hours: Counter[int] = field(default_factory=Counter)
    services: dict[str, KillGroup] = {}
    limits: dict[tuple[str, int | None], KillGroup] = {}
    repeats: dict[tuple[str, str], KillGroup] = {}
    _incidents: set[tuple[tuple[str, str], str]] = set()

    def add(self, event: DecodedEvent) -> None:
        """Count an event of the time."""
        self.host = self.host or event.resource.text("host.name") or ""
        if event.name != semconv.EVENT_KILL:
            name = _COUNTS.get(event.name)
            count = event.attributes.integer(name) if name else None
            self.other_events[event.name] += 1 if count is None else count
            return
        if event.attributes.text(semconv.OUTCOME) == "skipped":
            self.other_events["oom.kill (skipped)"] += 1
            return
        self.kill_count += 1
        self.outcomes[labels.outcome_label(event, with_repeat=False)] += 1
        self.hours[event.unix_ns // NS_PER_S // HOUR_S * HOUR_S] += 1
        self.services.setdefault(labels.service_label(event), KillGroup()).add(event)
        limit = labels.limit_owner_label(event), event.attributes.integer(semconv.LIMIT_MEMCG_LIMIT)
        self.limits.setdefault(limit, KillGroup()).add(event)
        if key := repeat_key(event):
            self._add_repeat(key, event)

    def _add_repeat(self, key: tuple[str, str], event: DecodedEvent) -> None:
        """Count the processes of one name that are killed as a group as one."""
        incident = key, event.attributes.text(semconv.INCIDENT_ID) or event.uid
        if incident not in self._incidents:
            self._incidents.add(incident)
            self.repeats.setdefault(key, KillGroup()).add(event)
