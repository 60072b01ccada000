"""What was seen around a kill, as attributes: cgroups, host, settings, candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from otel_oom.enrich import EnrichedKill
from otel_oom.model.event_base import Event
from otel_oom.model.snapshot import MemcgStats, Snapshot
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.otlp.logfmt import candidate_lines
from otel_oom.otlp.types import Value

_OWN: Final = (semconv.MEMCG_STAT, semconv.MEMCG_EVENTS, semconv.MEMCG_PRESSURE)
_HIT: Final = (semconv.LIMIT_MEMCG_STAT, semconv.LIMIT_MEMCG_EVENTS, semconv.LIMIT_MEMCG_PRESSURE)

_WHOLE: Final = ("anon", "file", "kernel")
_SMALL: Final = 100


def seen_attributes(enriched: EnrichedKill) -> dict[str, Value | None]:
    """What user space saw, but for the victim itself."""
    kill, candidates = enriched.kill, enriched.witness.tasks
    return {
        **around(kill, enriched.witness),
        semconv.TASKS_LARGEST: candidate_lines(enriched.candidates) or None,
        # The victim can have left its cgroup before it was looked for, and is told all the same.
        semconv.TASKS_COUNT: max(candidates.count, len(enriched.candidates))
        if candidates
        else None,
        semconv.TASKS_SKIPPED: candidates.skipped or None if candidates else None,
        semconv.TASKS_MEMCG_PATH: candidates.memcg if candidates else None,
        semconv.TASKS_DELAY: _after(kill, candidates.boottime_ns if candidates else None),
    }


def around(event: Event, witness: Snapshot) -> dict[str, Value | None]:
    """The cgroups, the host and its settings."""
    host = witness.host
    return {
        **_memcg(_OWN, witness.victim_cgroup),
        **_memcg(_HIT, witness.limit_cgroup),
        **(_keyed(semconv.HOST_MEMORY, host.memory) if host else {}),
        **(_keyed(semconv.HOST_PRESSURE, host.pressure) if host else {}),
        **_keyed(semconv.SYSCTL_VM, witness.vm_sysctl),
        semconv.SNAPSHOT_DELAY: _after(event, witness.boottime_ns),
    }


def _memcg(keys: tuple[str, str, str], numbers: MemcgStats | None) -> dict[str, Value | None]:
    if numbers is None:
        return {}
    stat, events, pressure = keys
    return {
        **_keyed(stat, _large(numbers.stat)),
        **_keyed(events, {name: count for name, count in numbers.events.items() if count}),
        **_keyed(pressure, numbers.pressure),
    }


def _large(stat: Mapping[str, int]) -> dict[str, int]:
    """The parts of a cgroup's memory that are worth a word: a hundredth of it or more."""
    least = sum(stat.get(part, 0) for part in _WHOLE) / _SMALL
    return {name: size for name, size in stat.items() if size >= least and size}


def _keyed(name: str, values: Mapping[str, float]) -> dict[str, Value | None]:
    """One attribute for each key, behind a common name."""
    return {f"{name}.{key}": value for key, value in values.items()}


def _after(event: Event, boottime_ns: int | None) -> float | None:
    """How long after the mark that was, in seconds; negative before it."""
    return None if boottime_ns is None else (boottime_ns - event.boottime_ns) / NS_PER_S
