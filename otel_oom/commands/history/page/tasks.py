"""The processes that the kernel could choose from, with the victim marked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from otel_oom.commands.elements import Element, Head, Paragraph, Section, Table
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
_RESIDENT: Final = [head.name for head in _HEADS].index("RESIDENT")
_OOM_SCORE_ADJ_MIN: Final = "-1000"

Fields = Mapping[str, str]


def describe_tasks(event: DecodedEvent) -> Section | None:
    """Return the section; ``None`` without a list of processes."""
    tasks = parse_logfmt(event.attributes.texts(semconv.TASKS_LARGEST))
    if not tasks:
        return None
    return Section("tasks", "Top memory consumers", tuple(_elements(event, tasks)))


def _elements(event: DecodedEvent, tasks: Sequence[Fields]) -> Iterator[Element]:
    yield Paragraph(_caption(event, len(tasks)), "muted")
    sizes = [_size(task, "resident") for task in tasks]
    yield Table(
        _HEADS,
        tuple(map(_cells, tasks)),
        tuple(index for index, task in enumerate(tasks) if task.get("killed") == "true"),
        mark="killed",
        bar_column=_RESIDENT,
        shares=tuple(size / (max(sizes) or 1) for size in sizes),
    )
    protected = [task for task in tasks if task.get("score_adj") == _OOM_SCORE_ADJ_MIN]
    if protected:
        names = ", ".join(f"{task.get('comm')} ({task.get('pid')})" for task in protected)
        yield Paragraph(f"Protected by oom_score_adj -1000: {names}")


def parse_logfmt(lines: Iterable[str]) -> list[Fields]:
    """Parse texts such as those of ``oom.tasks.largest``: logfmt, with texts as in JSON."""
    return [{name: _unquote(value) for name, value in _FIELD.findall(line)} for line in lines]


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
    swap = _size(task, "swap")
    return (
        task.get("pid", ""),
        task.get("comm", ""),
        format_bytes(_size(task, "resident")) if task.get("resident", "").isdecimal() else "",
        format_bytes(swap) if swap else "-",
        task.get("points", "-"),
        task.get("score_adj", "-"),
        task.get("uid", "-"),
        task.get("memcg", "-"),
    )


def _size(task: Fields, name: str) -> int:
    text = task.get(name, "")
    return int(text) if text.isdecimal() else 0
