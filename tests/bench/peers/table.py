"""The table of the peers, in which the best of each column is bold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_HEAD: Final = (
    *("program", "version", "RSS, MB", "CPU idle, % of a core", "start to capture, s"),
    *("storm", "group", "child in a PID namespace", "while it was down", "says of a kill"),
)


@dataclass(frozen=True)
class PeerResult:
    """The measurements of one peer; ``start_s`` is ``None`` if it reported no kill in time.

    ``storm``, ``group`` and ``down`` are numbers of kills that it reported, ``child`` is true if it
    reported that of a child in a PID namespace.
    """

    name: str
    version: str
    start_s: float | None
    rss_mb: float
    idle_percent: float
    storm: int
    group: int
    child: bool
    down: int
    fields: str
    note: str = ""


def format_table(results: Sequence[PeerResult], storm: int, group: int, down: int) -> str:
    """Return the table, and below it in which columns another program is ahead of the first."""
    numbers: dict[str, tuple[Callable[[PeerResult], float], Callable[[PeerResult], str]]] = {
        _HEAD[2]: (lambda each: each.rss_mb, lambda each: f"{each.rss_mb:.1f}"),
        _HEAD[3]: (lambda each: each.idle_percent, lambda each: f"{each.idle_percent:.2f}"),
        _HEAD[4]: (
            lambda each: float("inf") if each.start_s is None else each.start_s,
            lambda each: "none" if each.start_s is None else f"{each.start_s:.2f}",
        ),
        _HEAD[5]: (lambda each: -each.storm, lambda each: f"{each.storm} of {storm}"),
        _HEAD[6]: (lambda each: -each.group, lambda each: f"{each.group} of {group}"),
        _HEAD[7]: (lambda each: -each.child, lambda each: "yes" if each.child else "no"),
        _HEAD[8]: (lambda each: -each.down, lambda each: f"{each.down} of {down}"),
    }
    best = {name: min(value(each) for each in results) for name, (value, _) in numbers.items()}
    rows = []
    for each in results:
        cells = [
            f"**{text(each)}**" if value(each) == best[name] else text(each)
            for name, (value, text) in numbers.items()
        ]
        program = f"{each.name} ({each.note})" if each.note else each.name
        rows.append((program, each.version, *cells, each.fields))
    ahead = [name for name, (value, _) in numbers.items() if value(results[0]) > best[name]]
    lines = [_row(_HEAD), _row(("---",) * len(_HEAD)), *map(_row, rows), ""]
    return "\n".join((*lines, f"Another program is ahead in: {', '.join(ahead) or 'nothing'}."))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
