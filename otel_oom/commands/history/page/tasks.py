"""The processes that the kernel could choose from, with the victim marked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from rich.console import RenderableType

from otel_oom.commands.console import page
from otel_oom.commands.console.page import Head
from otel_oom.model.units import MS_PER_S, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_FIELD: Final = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |$)')
_HEADS: Final = (
    Head("PID", right=True),
    Head("COMM", flexible=True),
    *(Head(name, right=True) for name in ("RESIDENT", "SWAP", "POINTS", "ADJ", "USER")),
    Head("CGROUP", path=True),
)
_OOM_SCORE_ADJ_MIN: Final = "-1000"

Fields = Mapping[str, str]


def render_tasks(event: DecodedEvent) -> Iterator[RenderableType]:
    """Yield the section; nothing without a list of processes."""
    tasks = parse_tasks(event.attributes.text(semconv.TASKS_LARGEST) or "")
    if not tasks:
        return
    yield page.heading("Top memory consumers")
    yield page.paragraph(_caption(event, len(tasks)), "dim")
    marked = [index for index, task in enumerate(tasks) if task.get("killed") == "true"]
    yield page.marked_table(_HEADS, [_cells(task) for task in tasks], marked)
    protected = [task for task in tasks if task.get("score_adj") == _OOM_SCORE_ADJ_MIN]
    if protected:
        names = ", ".join(f"{task.get('comm')} ({task.get('pid')})" for task in protected)
        yield page.paragraph(f"Protected by oom_score_adj -1000: {names}")


def parse_tasks(logfmt: str) -> list[Fields]:
    """Parse the lines of ``oom.tasks.largest`` (logfmt, with texts as in JSON)."""
    return [
        {name: _unquote(value) for name, value in _FIELD.findall(line)}
        for line in logfmt.splitlines()
    ]


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def _caption(event: DecodedEvent, shown: int) -> str:
    attributes = event.attributes
    delay_s, count = attributes.number(semconv.TASKS_DELAY), attributes.integer(semconv.TASKS_COUNT)
    skipped = attributes.integer(semconv.TASKS_SKIPPED)
    path = attributes.text(semconv.TASKS_MEMCG_PATH)
    when = f", {_when(delay_s)} the kill" if delay_s is not None else ""
    total = f" of {count}" if count is not None and count > shown else ""
    where = f"in {path}" if path else "on the host"
    caption = f"The largest{total} {where}{when}. POINTS is the kernel's badness, in pages."
    return caption + (f" {skipped} more were not read in time." if skipped else "")


def _when(delay_s: float) -> str:
    # The kernel's own list is part of its report, before the kill.
    return f"{abs(delay_s) * MS_PER_S:.1f} ms {'before' if delay_s < 0 else 'after'}"


def _cells(task: Fields) -> tuple[str, ...]:
    resident, swap = task.get("resident", ""), task.get("swap", "0")
    return (
        task.get("pid", ""),
        task.get("comm", ""),
        format_bytes(int(resident)) if resident.isdecimal() else "",
        format_bytes(int(swap)) if swap.isdecimal() and swap != "0" else "-",
        task.get("points", "-"),
        task.get("score_adj", "-"),
        task.get("uid", "-"),
        task.get("memcg", "-"),
    )
