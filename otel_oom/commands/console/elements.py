"""Elements of a page on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import RenderableType

from otel_oom.commands.console import page
from otel_oom.commands.console.curve import draw_curve
from otel_oom.commands.elements import (
    HOURS,
    Bar,
    Bullet,
    Curve,
    Element,
    Fact,
    Head,
    HourGrid,
    Page,
    Paragraph,
    Stack,
    Stacks,
    Step,
    Table,
    Tone,
    Verbatim,
)

_INDENT: Final = 2
_STYLES: Final[dict[Tone, str]] = {
    "": "",
    "strong": "bold",
    "muted": "dim",
    "warning": "yellow",
    "alarm": "red",
    "advice": "green",
}


def render_page(content: Page) -> Iterator[RenderableType]:
    """Yield the page; a section that has only what a terminal leaves out is left out."""
    yield page.text(f"{content.title}, {content.time}", "bold red")
    yield ""
    yield page.text(content.sentence)
    for section in content.sections:
        rendered = [part for element in section.elements for part in _render(element)]
        if rendered:
            yield page.heading(section.title)
            yield from rendered
    if content.hint:
        yield ""
        yield page.text(content.hint)


def _render(element: Element) -> Iterator[RenderableType]:
    match element:
        case Fact(label, text, tone) | Step(label, text, tone):
            yield from page.row(label, text, _STYLES[tone])
        case Bar():
            label = f"  {element.label}" if element.detail else element.label
            style = _STYLES[element.tone]
            yield page.bar(label, element.part, element.whole, element.text, style)
        case Paragraph(text, tone):
            yield page.paragraph(text, _STYLES[tone])
        case Bullet(text):
            yield page.item("•", page.text(text))
        case Table():
            yield _table(element)
        case Stacks(stacks):
            yield ""
            yield page.columns(*map(_stack_lines, stacks))
        case HourGrid():
            yield _hour_grid(element)
        case Curve():
            yield page.block(element.label, [element.top, *draw_curve(element)])
        case Verbatim():
            pass


def _table(element: Table) -> RenderableType:
    if element.marked:
        return page.marked_table(element.heads, element.rows, element.marked)
    return page.table(element.heads, element.rows, indent=_INDENT)


def _stack_lines(stack: Stack) -> list[str]:
    return [stack.title, *(f"  {frame}" for frame in stack.frames)]


def _hour_grid(grid: HourGrid) -> RenderableType:
    heads = (Head("DAY"), *(Head(f"{hour:02}", right=True) for hour in range(HOURS)))
    # With the year, the grid is too wide for 80 columns.
    rows = [
        (day[-len("MM-DD") :], *(str(count) if count else "·" for count in counts))
        for day, counts in zip(grid.days, grid.counts, strict=True)
    ]
    return page.table(heads, rows, indent=_INDENT, gap=1)
