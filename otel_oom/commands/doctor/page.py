"""The report as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from otel_oom.commands.console import page
from otel_oom.commands.doctor import FAIL, OK, WARN, Check
from otel_oom.commands.doctor.next_victim import ProcessScore
from otel_oom.commands.doctor.prediction import CgroupHeadroom, OomPrediction
from otel_oom.commands.elements import Head
from otel_oom.model.units import format_bytes

_MARKS: Final = {OK: ("✓", "green"), WARN: ("!", "yellow"), FAIL: ("✗", "red")}
_HEADS: Final = (
    *(Head("OOM_SCORE", right=True), Head("PID", right=True), Head("COMM", flexible=True)),
    *(Head("MEMORY", right=True), Head("ADJ", right=True), Head("OWNER", flexible=True)),
    Head("CGROUP", path=True),
)


def render_report(checks: Sequence[Check], prediction: OomPrediction) -> Iterator[RenderableType]:
    """Yield the checks and the prediction."""
    for check in checks:
        yield from _check(check)
    yield from render_prediction(prediction)


def _check(check: Check) -> Iterator[RenderableType]:
    mark, style = _MARKS[check.state]
    result = page.text(f"{check.name}: {check.detail}")
    result.stylize("bold", 0, len(check.name))
    yield page.item(Text(mark, style=style), result, indent=0)
    if check.advice:
        yield page.item("→", page.lines(check.advice.splitlines()), indent=4)


def render_prediction(prediction: OomPrediction) -> Iterator[RenderableType]:
    """Yield the next victims, and the cgroups that are nearest to their limits."""
    yield page.heading("Next victims, if the host ran out of memory now")
    if prediction.kills_trigger:
        yield page.paragraph(
            "vm.oom_kill_allocating_task is set: the kernel would kill the allocating process. "
            "By score:"
        )
    if prediction.victims:
        yield page.table(_HEADS, [_cells(victim) for victim in prediction.victims], indent=2)
    else:
        yield page.paragraph("No killable process visible.")
    if prediction.protected:
        yield page.paragraph(f"Protected by oom_score_adj -1000: {_protected(prediction)}")
    if prediction.memcgs:
        yield page.heading("Cgroups nearest to their limits")
        for headroom in prediction.memcgs:
            yield page.item("•", page.text(_headroom(headroom)))


def _cells(victim: ProcessScore) -> tuple[str, ...]:
    return (
        *(str(victim.oom_score), str(victim.pid), victim.comm, format_bytes(victim.total_bytes)),
        *(str(victim.oom_score_adj), victim.owner or "-", victim.cgroup),
    )


def _protected(prediction: OomPrediction) -> str:
    shown = [f"{process.comm} ({process.pid})" for process in prediction.protected]
    more = prediction.protected_count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _headroom(headroom: CgroupHeadroom) -> str:
    victim = headroom.victim
    share = headroom.used_bytes / headroom.limit_bytes
    used = (
        f"{format_bytes(headroom.used_bytes)} of {format_bytes(headroom.limit_bytes)} ({share:.0%})"
    )
    killed = (
        f"{victim.comm} (pid {victim.pid}) would be killed" if victim else "no killable process"
    )
    return f"{headroom.path}: {used}, {killed}"
