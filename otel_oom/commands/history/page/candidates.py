"""Who used the memory: those that the kernel could choose from, the chosen one marked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from otel_oom.commands.console.page import Page
from otel_oom.model.units import MS_PER_S, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_FIELD: Final = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |$)')
_HEADS: Final = ("PID", "COMM", "RESIDENT", "SWAP", "POINTS", "ADJ", "USER", "CGROUP")
_RIGHT: Final = frozenset({0, 2, 3, 4, 5, 6})
_SPARED: Final = "-1000"

Fields = Mapping[str, str]


def lines(record: DecodedEvent, layout: Page) -> Iterator[str]:
    """The section; empty where nobody looked."""
    values = record.attributes
    told = read(values.text(semconv.TASKS_LARGEST) or "")
    if not told:
        return
    yield from layout.heading("Who used the memory")
    yield from layout.paragraph(_when(record, len(told)), "dim", indent=2)
    marked = frozenset(at for at, one in enumerate(told) if one.get("killed") == "true")
    yield from layout.table(
        _HEADS, [_row(one) for one in told], right=_RIGHT, marked=marked, flexible=(1,)
    )
    spared = [one for one in told if one.get("score_adj") == _SPARED]
    if spared:
        who = ", ".join(f"{one.get('comm')} ({one.get('pid')})" for one in spared)
        yield from layout.paragraph(f"Never chosen, by oom_score_adj -1000: {who}", indent=2)


def read(lines: str) -> list[Fields]:
    """The lines of ``oom.tasks.largest`` by their fields (logfmt, texts as in JSON)."""
    return [
        {name: _unquoted(value) for name, value in _FIELD.findall(line)}
        for line in lines.splitlines()
    ]


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def _when(record: DecodedEvent, shown: int) -> str:
    values = record.attributes
    after, count = values.number(semconv.TASKS_DELAY), values.integer(semconv.TASKS_COUNT)
    left_out = values.integer(semconv.TASKS_SKIPPED)
    memcg = values.text(semconv.TASKS_MEMCG_PATH)
    when = f", seen {after * MS_PER_S:.1f} ms after the mark" if after is not None else ""
    of = f" of {count}" if count is not None and count > shown else ""
    where = f"in {memcg}" if memcg else "on the host"
    told = f"The largest{of} {where}{when}; points are what the kernel chose by, in pages."
    return told + (f" For {left_out} more there was no time." if left_out else "")


def _row(one: Fields) -> Sequence[str]:
    resident, swap = one.get("resident", ""), one.get("swap", "0")
    return (
        one.get("pid", ""),
        one.get("comm", ""),
        format_bytes(int(resident)) if resident.isdecimal() else "",
        format_bytes(int(swap)) if swap.isdecimal() and swap != "0" else "-",
        one.get("points", "-"),
        one.get("score_adj", "-"),
        one.get("uid", "-"),
        one.get("memcg", "-"),
    )
