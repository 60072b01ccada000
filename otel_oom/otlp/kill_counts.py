"""The counters of kills that an event raises: what its metrics are made of.

The attributes of ``oom.kills`` are a few of the event's own, and its owner's, which the user
chooses. Beyond the limit of series the owner is left out, and :data:`OVERFLOW` is there instead.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

from otel_oom.enrich.types import (
    EnrichedEvent,
    EnrichedKill,
    EnrichedMissedKills,
    EnrichedUserspaceKill,
)
from otel_oom.otlp import semconv
from otel_oom.otlp.event import Event
from otel_oom.otlp.semconv import Value
from otel_oom.store.counters import VICTIM_MEMORY
from otel_oom.store.types import KillCount

OVERFLOW: Final = {semconv.OTEL_METRIC_OVERFLOW: True}
"""Specification: Metrics SDK, "Overflow attribute". Attributes with few values stay beside it."""

MEMORY_BOUNDS_BYTES: Final = tuple(1 << exponent for exponent in range(20, 41))
"""Upper bounds of the buckets of ``oom.victim.memory``: from 1 MiB to 1 TiB."""
MEMORY_SUM: Final = "sum"

_MAX_CHARS: Final = 256

_Values = Mapping[str, Value | None]


def count_kills(
    enriched: EnrichedEvent, event: Event | None = None, owner_names: Iterable[str] = ()
) -> KillCount | None:
    """Return what ``oom.kills`` counts of an event; ``None`` for one that is no kill.

    The owner's attributes come from ``event``, as it is sent; of one that is not sent there are
    none.
    """
    values = _values(enriched)
    if values is None:
        return None
    if isinstance(enriched, EnrichedMissedKills):
        return KillCount(format_label(values), count=enriched.event.count)
    # Sorted: the order of the user's names makes no other series.
    names = sorted(name for name in owner_names if name not in values)
    owner = _owner(event, names) if event else {}
    return KillCount(
        label=format_label({**values, **owner}),
        overflow_label=format_label({**values, **OVERFLOW}) if owner else "",
        last_unix_ns=enriched.event.time_unix_ns,
    )


def count_memory(enriched: EnrichedEvent) -> dict[str, int]:
    """Return the counters of ``oom.victim.memory``; empty where the memory is not known."""
    scope: str | None = None
    match enriched:
        case EnrichedKill(event=kill, outcome="killed") if kill.memory:
            memory, scope = kill.memory.resident, enriched.limit_scope
        case EnrichedUserspaceKill(event=kill) if kill.resident is not None:
            memory = kill.resident
        case _:
            return {}
    label = format_label({semconv.LIMIT_SCOPE: scope})
    bucket = bisect_left(MEMORY_BOUNDS_BYTES, memory)
    return {
        f"{VICTIM_MEMORY}{bucket}.{label}": 1,
        f"{VICTIM_MEMORY}{MEMORY_SUM}.{label}": memory,
    }


def format_label(values: _Values) -> str:
    """Format attributes as JSON, in their order, without unknown ones."""
    return json.dumps({name: value for name, value in values.items() if value is not None})


def _values(enriched: EnrichedEvent) -> _Values | None:
    """Return the attributes with few values; the kernel as the killer is left out."""
    match enriched:
        case EnrichedKill():
            decision = enriched.event.decision
            return {
                semconv.OUTCOME: enriched.outcome,
                semconv.DECISION_CONSTRAINT: decision.constraint if decision else None,
                semconv.LIMIT_SCOPE: enriched.limit_scope,
                semconv.GROWTH_KIND: enriched.growth.kind if enriched.growth else None,
                semconv.CAUSE: _cause(enriched),
            }
        case EnrichedUserspaceKill():
            return {
                semconv.OUTCOME: enriched.outcome,
                semconv.KILLER_NAME: enriched.event.killer.name,
                semconv.KILLER_VERIFIED: enriched.verified,
                semconv.CAUSE: _cause(enriched),
            }
        case EnrichedMissedKills():
            return {semconv.OUTCOME: "missed", semconv.KILLER_NAME: enriched.event.killer}
        case _:
            return None


def _cause(enriched: EnrichedKill | EnrichedUserspaceKill) -> str | None:
    return enriched.finding.cause if enriched.finding else None


def _owner(event: Event, names: Iterable[str]) -> dict[str, Value]:
    values = {**event.resource, **event.attributes}
    return {name: _clean_value(values[name]) for name in names if name in values}


def _clean_value(value: object) -> Value:
    """Return a scalar; a text is bounded, and can be encoded as UTF-8."""
    if isinstance(value, bool | int | float):
        return value
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text[:_MAX_CHARS].encode("utf-8", "replace").decode()
