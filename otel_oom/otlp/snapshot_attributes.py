"""Attributes of the snapshot: cgroups, host, its settings, and the largest processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from otel_oom.enrich.badness import RankedTask
from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.event_base import Event
from otel_oom.model.events import UserspaceKill
from otel_oom.model.snapshot import MemcgStats, Snapshot
from otel_oom.model.text import quote_text
from otel_oom.model.types import TaskList
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
    """Return the largest processes, the first one in flat attributes, and how they were read."""
    return candidate_attributes(enriched.event, enriched.event.tasks, enriched.ranked_tasks)


def candidate_attributes(
    event: Event, tasks: TaskList | None, ranked: Sequence[RankedTask]
) -> dict[str, Value | None]:
    """Return processes that the kernel can choose from, as :func:`task_attributes`."""
    if tasks is None:
        return {}
    return {
        semconv.TASKS_LARGEST: format_tasks(ranked),
        **(_largest_task_attributes(ranked[0]) if ranked else {}),
        # The victim is listed even if it left its cgroup before the scan.
        semconv.TASKS_COUNT: max(tasks.count, len(ranked)),
        semconv.TASKS_SKIPPED: tasks.skipped or None,
        semconv.TASKS_MEMCG_PATH: tasks.memcg,
        semconv.TASKS_DELAY: _delay_s(event, tasks.boottime_ns),
    }


def killed_task_attributes(event: UserspaceKill) -> dict[str, Value | None]:
    """Return the processes of a cgroup that a userspace OOM daemon killed, largest first."""
    tasks = event.tasks
    if tasks is None:
        return {}
    killed = [RankedTask(task, points=None, is_victim=True) for task in tasks.largest]
    return {
        semconv.TASKS_LARGEST: format_tasks(killed),
        **(_largest_task_attributes(killed[0]) if killed else {}),
        semconv.TASKS_COUNT: tasks.count,
        semconv.TASKS_SKIPPED: tasks.skipped or None,
        semconv.TASKS_MEMCG_PATH: tasks.memcg,
        semconv.TASKS_DELAY: _delay_s(event, tasks.boottime_ns),
    }


def _largest_task_attributes(ranked: RankedTask) -> dict[str, Value | None]:
    task = ranked.task
    return {
        semconv.LARGEST_TASK_PID: task.tgid,
        semconv.LARGEST_TASK_COMM: task.comm,
        semconv.LARGEST_TASK_MEMORY_RESIDENT: task.resident,
    }


def format_tasks(tasks: Sequence[RankedTask]) -> list[str]:
    """Format each process in logfmt; unknown values are omitted.

    Not parallel arrays, whose elements no backend can join. The last processes are dropped beyond
    the limit, which only names full of escapes reach.
    """
    lines: list[str] = []
    remaining = _MAX_LIST_CHARS
    for line in map(_format_task, tasks):
        remaining -= len(line) + 1
        if remaining < 0:
            break
        lines.append(line)
    return lines


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
