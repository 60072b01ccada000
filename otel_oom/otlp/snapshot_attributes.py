"""Attributes of the snapshot: cgroups, host, its settings, and the largest processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from otel_oom.enrich.badness import RankedTask
from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.event_base import Event
from otel_oom.model.snapshot import MemcgStats, Snapshot
from otel_oom.model.text import quote_text
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.otlp.semconv import Value

_VICTIM_MEMCG: Final = (
    semconv.VICTIM_MEMCG_STAT,
    semconv.VICTIM_MEMCG_EVENTS,
    semconv.VICTIM_MEMCG_PRESSURE,
)
_LIMIT_MEMCG: Final = (
    semconv.LIMIT_MEMCG_STAT,
    semconv.LIMIT_MEMCG_EVENTS,
    semconv.LIMIT_MEMCG_PRESSURE,
)

_TOTAL_PARTS: Final = ("anon", "file", "kernel")
_MIN_SHARE: Final = 100

_MAX_LIST_CHARS: Final = 4096
_MAX_PATH_CHARS: Final = 200


def snapshot_attributes(event: Event, snapshot: Snapshot) -> dict[str, Value | None]:
    """Return the cgroups, the host and its settings."""
    host = snapshot.host
    return {
        **_memcg_attributes(_VICTIM_MEMCG, snapshot.victim_cgroup),
        **_memcg_attributes(_LIMIT_MEMCG, snapshot.limit_cgroup),
        **(_with_prefix(semconv.HOST_MEMORY, host.memory) if host else {}),
        **(_with_prefix(semconv.HOST_PRESSURE, host.pressure) if host else {}),
        **_with_prefix(semconv.HOST_SYSCTL_VM, snapshot.vm_sysctl),
        semconv.SNAPSHOT_DELAY: _delay_s(event, snapshot.boottime_ns),
    }


def task_attributes(enriched: EnrichedKill) -> dict[str, Value | None]:
    """Return the list of the largest processes, and how it was made."""
    tasks, ranked = enriched.event.tasks, enriched.ranked_tasks
    if tasks is None:
        return {}
    return {
        semconv.TASKS_LARGEST: format_tasks(ranked) or None,
        # The victim is listed even if it left its cgroup before the scan.
        semconv.TASKS_COUNT: max(tasks.count, len(ranked)),
        semconv.TASKS_SKIPPED: tasks.skipped or None,
        semconv.TASKS_MEMCG_PATH: tasks.memcg,
        semconv.TASKS_DELAY: _delay_s(enriched.event, tasks.boottime_ns),
    }


def format_tasks(tasks: Sequence[RankedTask]) -> str:
    """Format one line in logfmt for each process; unknown values are omitted.

    One string instead of parallel arrays: people can read it, and backends without arrays keep it.
    The last lines are dropped beyond the limit, which only names full of escapes reach.
    """
    lines: list[str] = []
    remaining = _MAX_LIST_CHARS
    for line in map(_format_task, tasks):
        remaining -= len(line) + 1
        if remaining < 0:
            break
        lines.append(line)
    return "\n".join(lines)


def _format_task(ranked: RankedTask) -> str:
    task = ranked.task
    path = task.memcg
    if path and len(path) > _MAX_PATH_CHARS:
        path = f"…{path[-_MAX_PATH_CHARS:]}"
    fields = {
        "pid": task.tgid,
        "comm": quote_text(task.comm),
        "resident": task.resident,
        "swap": task.swap or None,
        "points": ranked.points,
        "score_adj": task.score_adj,
        "uid": task.uid,
        "memcg": None if path is None else quote_text(path),
        "killed": "true" if ranked.is_victim else None,
    }
    return " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)


def _memcg_attributes(
    names: tuple[str, str, str], stats: MemcgStats | None
) -> dict[str, Value | None]:
    if stats is None:
        return {}
    stat, events, pressure = names
    return {
        **_with_prefix(stat, _large_parts(stats.stat)),
        **_with_prefix(events, {name: count for name, count in stats.events.items() if count}),
        **_with_prefix(pressure, stats.pressure),
    }


def _large_parts(stat: Mapping[str, int]) -> dict[str, int]:
    """Return the parts of a cgroup's memory that are at least a hundredth of it."""
    minimum = sum(stat.get(part, 0) for part in _TOTAL_PARTS) / _MIN_SHARE
    return {name: size for name, size in stat.items() if size >= minimum and size}


def _with_prefix(prefix: str, values: Mapping[str, float]) -> dict[str, Value | None]:
    return {f"{prefix}.{key}": value for key, value in values.items()}


def _delay_s(event: Event, boottime_ns: int | None) -> float | None:
    """Return the time since the mark; negative before it."""
    return None if boottime_ns is None else (boottime_ns - event.boottime_ns) / NS_PER_S
