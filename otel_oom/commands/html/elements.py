"""Elements of a page as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from otel_oom.commands.elements import (
    HOURS,
    Bar,
    Bullet,
    Curve,
    Element,
    Fact,
    Head,
    HourGrid,
    Paragraph,
    Stacks,
    Step,
    Table,
    Verbatim,
)
from otel_oom.commands.html.curve import render_curve
from otel_oom.commands.html.markup import NEW_LINE, Content, Markup, join, tag

_LISTS: Final[dict[type, str]] = {Fact: "facts", Bar: "facts", Step: "steps", Bullet: "bullets"}
"""Kinds of which neighbours are in one list."""
_HEAT_STEPS: Final = 4


def render_elements(elements: Iterable[Element]) -> Iterator[Markup]:
    """Yield the elements; neighbours of one kind are in one list."""
    for kind, members in groupby(elements, lambda element: _LISTS.get(type(element), "")):
        match kind:
            case "facts":
                yield tag("dl", (part for each in members for part in _row(each)), class_="facts")
            case "steps":
                yield tag("ol", map(_step, members), class_="steps")
            case "bullets":
                yield tag("ul", map(_bullet, members), class_="bullets")
            case _:
                yield from map(_block, members)


def render_facts(facts: Iterable[Fact]) -> Markup:
    """Return facts as a list of names and values."""
    return tag("dl", (tag("div", *_row(fact)) for fact in facts), class_="summary")


def _row(element: Element) -> Iterator[Markup]:
    match element:
        case Fact(label, text, tone):
            yield tag("dt", label)
            yield tag("dd", text, class_=tone or None)
        case Bar(label=label, tone=tone):
            kind = " ".join(filter(None, ("bar", "detail" if element.detail else "", tone)))
            yield tag("dt", label, class_="detail" if element.detail else None)
            yield tag("dd", _bar(element.share), tag("span", element.text), class_=kind)


def _bar(share: float) -> Markup:
    # The text beside it says the same.
    fill = tag("span", class_="fill", style=f"width: {share:.1%}")
    return tag("span", fill, class_="track", aria_hidden="true")


def _step(element: Element) -> Markup:
    match element:
        case Step(distance, text, tone):
            return tag("li", tag("b", distance), tag("span", text), class_=tone or None)
    raise TypeError(element)


def _bullet(element: Element) -> Markup:
    match element:
        case Bullet(text):
            return tag("li", text)
    raise TypeError(element)


def _block(element: Element) -> Markup:
    match element:
        case Paragraph(text, tone):
            return tag("p", text, class_=tone or None)
        case Table():
            return _table(element)
        case Stacks(stacks):
            columns = (
                tag("div", tag("h3", stack.title), tag("ol", (tag("li", f) for f in stack.frames)))
                for stack in stacks
            )
            return tag("div", columns, class_="stacks")
        case HourGrid():
            return _hour_grid(element)
        case Curve():
            return render_curve(element)
        case Verbatim(title, lines):
            block = tag("pre", (join(line, NEW_LINE) for line in lines))
            return tag("details", tag("summary", title), block)
    raise TypeError(element)


def _table(table: Table) -> Markup:
    mark = (_head(tag("span", table.mark, class_="unseen")),) if table.mark else ()
    names = (_head(head.name, _cell_class(head)) for head in table.heads)
    return tag(
        "table",
        tag("thead", tag("tr", mark, names, role="row"), role="rowgroup"),
        tag("tbody", (_table_row(table, n) for n in range(len(table.rows))), role="rowgroup"),
        # The roles are explicit because a narrow page lays out rows as blocks.
        role="table",
    )


def _head(content: Content, class_: str | None = None) -> Markup:
    return tag("th", content, role="columnheader", scope="col", class_=class_)


def _table_row(table: Table, number: int) -> Markup:
    cells = [
        _cell(head, text, table.shares[number] if column == table.bar_column else None)
        for column, (head, text) in enumerate(zip(table.heads, table.rows[number], strict=True))
    ]
    is_marked = number in table.marked
    if table.mark:
        badge = (tag("span", table.mark, class_="badge"),) if is_marked else ()
        cells.insert(0, tag("td", badge, role="cell", class_="mark"))
    return tag("tr", cells, role="row", class_="marked" if is_marked else None)


def _cell(head: Head, text: str, share: float | None) -> Markup:
    bar = "" if share is None else _bar(share)
    return tag("td", text, bar, role="cell", class_=_cell_class(head), data_label=head.name)


def _cell_class(head: Head) -> str | None:
    kinds = {"right": head.right, "path": head.path, "short": head.short}
    return " ".join(kind for kind, applies in kinds.items() if applies) or None


def _hour_grid(grid: HourGrid) -> Markup:
    hours = (tag("th", f"{hour:02}", scope="col") for hour in range(HOURS))
    largest = max((count for counts in grid.counts for count in counts), default=0)
    rows = (
        tag(
            "tr",
            tag("th", day, scope="row"),
            (_hour(count, largest) for count in counts),
            tag("td", str(sum(counts)), class_="right"),
        )
        for day, counts in zip(grid.days, grid.counts, strict=True)
    )
    heads = tag("tr", tag("th", "DAY", scope="col"), hours, tag("th", "ALL", scope="col"))
    table = tag("table", tag("thead", heads), tag("tbody", rows), class_="hours")
    # It scrolls by itself on a narrow page; the keyboard needs a focus for that.
    label = "Kills by day and hour"
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)


def _hour(count: int, largest: int) -> Markup:
    if not count:
        return tag("td", "·", class_="none")
    heat = -(-count * _HEAT_STEPS // largest)
    return tag("td", str(count), class_=f"heat{heat}")
