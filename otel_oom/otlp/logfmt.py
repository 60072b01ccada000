"""The process list as text: one process per line, in logfmt.

One string instead of parallel arrays: people can read it, and backends without arrays keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otel_oom.enrich.badness import RankedTask
from otel_oom.model.text import quote_text

_MAX_CHARS: Final = 4096
_MAX_PATH_CHARS: Final = 200


def format_tasks(tasks: Sequence[RankedTask]) -> str:
    """Format one line for each process, the largest first; unknown values are omitted.

    The last lines are dropped beyond the limit, which only names full of escapes reach.
    """
    lines: list[str] = []
    remaining = _MAX_CHARS
    for line in map(_format_task, tasks):
        remaining -= len(line) + 1
        if remaining < 0:
            break
        lines.append(line)
    return "\n".join(lines)


def _format_task(ranked: RankedTask) -> str:
    task = ranked.task
    fields = {
        "pid": task.tgid,
        "comm": quote_text(task.comm),
        "resident": task.resident,
        "swap": task.swap or None,
        "points": ranked.points,
        "score_adj": task.score_adj,
        "uid": task.uid,
        "memcg": None if task.memcg is None else quote_text(_shorten(task.memcg)),
        "killed": "true" if ranked.is_victim else None,
    }
    return " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)


def _shorten(path: str) -> str:
    return path if len(path) <= _MAX_PATH_CHARS else f"…{path[-_MAX_PATH_CHARS:]}"
