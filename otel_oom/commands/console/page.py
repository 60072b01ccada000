"""Elements of a page: headings, rows, bars, tables. Each escapes the text that it is given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from rich.bar import Bar
from rich.cells import cell_len, set_cell_size
from rich.columns import Columns
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from otel_oom.commands.elements import Head
from otel_oom.model.text import escape_for_terminal

_INDENT: Final = 2
_GAP: Final = 2
_LABEL_WIDTH: Final = 13
_NAME_WIDTH: Final = 34
_BAR_WIDTH: Final = 40
_BAR_TEXT_WIDTH: Final = 27
"""All bars of a page with shorter texts have the same length."""
_MIN_CELL_WIDTH: Final = 8
_MARK: Final = "▶"


def text(content: str, style: str = "") -> Text:
    """Return running text, wrapped at words; a word that is too long is broken."""
    return Text(escape_for_terminal(content), style=style, overflow="fold")


def lines(texts: Sequence[str]) -> Text:
    """Return several lines of running text."""
    return Text("\n".join(map(escape_for_terminal, texts)), overflow="fold")


def heading(title: str) -> RenderableType:
    """Return the title of a section, after an empty line."""
    return Padding(text(title, "bold"), (1, 0, 0, 0))


def paragraph(content: str, style: str = "", *, indent: int = _INDENT) -> RenderableType:
    """Return running text, indented as a whole."""
    return Padding.indent(text(content, style), indent)


def item(mark: RenderableType, content: RenderableType, *, indent: int = _INDENT) -> RenderableType:
    """Return a mark and what stands beside it, on several lines if need be."""
    grid = Table.grid(Column(no_wrap=True), Column(), padding=(0, 1, 0, 0))
    grid.add_row(mark, content)
    return Padding.indent(grid, indent)


def definitions(
    texts: Iterable[tuple[str, Sequence[str]]], indent: int = 2 * _INDENT
) -> RenderableType:
    """Return names and the lines of their texts beside them."""
    names = Column(no_wrap=True, style="dim", min_width=_NAME_WIDTH)
    grid = Table.grid(names, Column(), padding=(0, 1, 0, 0))
    for name, parts in texts:
        grid.add_row(text(name), lines(parts))
    return Padding.indent(grid, indent)


def row(label: str, content: str | None, style: str = "") -> Iterator[RenderableType]:
    """Yield a label and its text; nothing without a text."""
    if content:
        yield _labelled(label, text(content, style))


def bar(label: str, part: float, whole: float, content: str, style: str = "") -> RenderableType:
    """Return a bar that shows ``part`` of ``whole``, with a text behind it."""
    share = max(0.0, min(1.0, part / whole)) if whole else 0.0
    text_column = Column(no_wrap=True, min_width=_BAR_TEXT_WIDTH)
    grid = Table.grid(Column(), Column(max_width=_BAR_WIDTH), Column(), text_column)
    grid.add_row("▕", Bar(1, 0, share, color=style or "default"), "▏ ", text(content))
    return _labelled(label, grid)


def block(label: str, texts: Sequence[str]) -> RenderableType:
    """Return a label and several lines beside it."""
    return _labelled(label, lines(texts))


def _labelled(label: str, content: RenderableType) -> RenderableType:
    grid = Table.grid(Column(width=_LABEL_WIDTH, no_wrap=True, style="dim"), Column())
    grid.add_row(text(label), content)
    return Padding.indent(grid, _INDENT)


def table(
    heads: Sequence[Head],
    rows: Sequence[Sequence[str]],
    styles: Mapping[int, str] = MappingProxyType({}),
    *,
    indent: int = 0,
    gap: int = _GAP,
) -> RenderableType:
    """Return rows of one line each under their heads; ``styles`` are those of some row numbers."""
    cells = [
        [_Cell(text, cut_front=head.path) for text, head in zip(row, heads, strict=True)]
        for row in rows
    ]
    grid = _Table(box=None, padding=(0, 0, 0, gap), pad_edge=False, header_style="dim")
    for number, head in enumerate(heads):
        width = max([cell_len(head.name), *(row[number].width for row in cells)])
        flexible = head.flexible or head.path
        min_width = min(width, _MIN_CELL_WIDTH) if flexible else width
        justify: JustifyMethod = "right" if head.right else "left"
        grid.add_column(head.name, no_wrap=not flexible, justify=justify, min_width=min_width)
    for number, row in enumerate(cells):
        grid.add_row(*row, style=styles.get(number))
    return Padding.indent(grid, indent)


class _Table(Table):
    """A table that keeps its columns on a page that is too narrow: the end of its lines is cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        gap = self.padding[-1]
        min_width = sum((column.min_width or 0) + gap for column in self.columns) - gap
        wide_enough = options.update(max_width=max(options.max_width, min_width))
        return super().__rich_console__(console, wide_enough)


def marked_table(
    heads: Sequence[Head], rows: Sequence[Sequence[str]], marked: Collection[int]
) -> RenderableType:
    """Return an indented table in which the rows of some numbers are marked."""
    cells = [(_MARK if number in marked else "", *row) for number, row in enumerate(rows)]
    styles = dict.fromkeys(marked, "bold")
    return table((Head(""), *heads), cells, styles, indent=_INDENT)


def columns(*texts: Sequence[str]) -> RenderableType:
    """Return several lists of lines side by side, one below the other if there is no space."""
    blocks = [lines(block) for block in texts if block]
    for block in blocks:
        block.no_wrap, block.overflow = True, "ellipsis"
    return Padding.indent(Columns(blocks, padding=(0, 3)), _INDENT)


class _Cell:
    """A text on one line, cut at its end or at its front if its column is too narrow."""

    def __init__(self, content: str, *, cut_front: bool) -> None:
        self._text = escape_for_terminal(content)
        self._cut_front = cut_front
        self.width = cell_len(self._text)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(self.width, _MIN_CELL_WIDTH), self.width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        free = options.max_width - self.width
        if free < 0:
            width = options.max_width
            without_end = set_cell_size(self._text, width - 1).rstrip(" ") + "…"
            yield Segment(_without_front(self._text, width) if self._cut_front else without_end)
        else:
            yield Segment(" " * free + self._text if options.justify == "right" else self._text)


def _without_front(content: str, width: int) -> str:
    end = content[max(0, len(content) - width + 1) :]
    while cell_len(end) >= width:
        end = end[1:]
    return f"…{end}"
