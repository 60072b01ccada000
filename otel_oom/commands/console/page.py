"""How a page is set: headings, rows of a label and its text, bars. All that it sets is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from otel_oom.commands.console.terminal import (
    Terminal,
    bar,
    cells,
    cut,
    fitted,
    padded,
    printable,
    wrapped,
)

_INDENT: Final = 2
_LABEL: Final = 13
_BAR: Final = 40
_GAP: Final = 2
_LEAST: Final = 8
_MARK: Final = "▶ "


@dataclass(frozen=True, slots=True)
class Page:
    """Sets text for one terminal."""

    terminal: Terminal

    def heading(self, text: str) -> Iterator[str]:
        """The title of a section, behind an empty line."""
        yield ""
        yield self.terminal.styled(printable(text), "bold")

    def paragraph(
        self, text: str, *styles: str, indent: int = 0, hanging: int = 0
    ) -> Iterator[str]:
        """Running text over as many lines as it takes; all but the first stand further in."""
        lines = wrapped(printable(text), self.terminal.width - indent - hanging)
        for number, line in enumerate(lines):
            yield " " * (indent + (hanging if number else 0)) + self.terminal.styled(line, *styles)

    def row(self, label: str, text: str | None, *styles: str) -> Iterator[str]:
        """A label and its text; nothing where the text is not known."""
        if not text:
            return
        begin = _INDENT + _LABEL
        for number, line in enumerate(wrapped(printable(text), self.terminal.width - begin)):
            left = padded(printable(label) if number == 0 else "", _LABEL)
            yield (
                " " * _INDENT
                + self.terminal.styled(left, "dim")
                + self.terminal.styled(line, *styles)
            )

    def bar(self, label: str, part: float, whole: float, text: str, *styles: str) -> Iterator[str]:
        """How much ``part`` is of ``whole``, as a bar with a text behind it."""
        width = min(_BAR, max(_LEAST, self.terminal.width - _INDENT - _LABEL - 2 - cells(text) - 1))
        filled = bar(part / whole if whole else 0.0, width)
        left = " " * _INDENT + self.terminal.styled(padded(printable(label), _LABEL), "dim")
        yield f"{left}▕{self.terminal.styled(filled, *styles)}▏ {printable(text)}"

    def table(
        self,
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: frozenset[int] = frozenset(),
        marked: frozenset[int] = frozenset(),
        flexible: Sequence[int] = (),
    ) -> Iterator[str]:
        """Rows under heads; numbers to the ``right``; the rows ``marked`` stand out.

        Where there is too little room the last column is cut first, at its front, for paths end in
        what tells; and then the columns ``flexible``.
        """
        told = [[printable(text) for text in row] for row in rows]
        widths = [max(map(cells, column)) for column in zip(heads, *told, strict=True)]
        room = self.terminal.width - _INDENT - cells(_MARK) - _GAP * (len(heads) - 1)
        widths = fitted(widths, room, (len(heads) - 1, *flexible), _LEAST)
        for number, row in enumerate((list(heads), *told)):
            set_ = [
                padded(cut(text, width, front=at == len(widths) - 1), width, right=at in right)
                for at, (text, width) in enumerate(zip(row, widths, strict=True))
            ]
            mark = _MARK if number - 1 in marked else " " * cells(_MARK)
            line = " " * _INDENT + mark + (" " * _GAP).join(set_)
            styles = ("dim",) if number == 0 else ("bold",) if number - 1 in marked else ()
            yield self.terminal.styled(cut(line.rstrip(), self.terminal.width), *styles)

    def columns(self, left: Sequence[str], right: Sequence[str]) -> Iterator[str]:
        """Two lists side by side where there is room, else one under the other."""
        left, right = [*map(printable, left)], [*map(printable, right)]
        width = max(map(cells, left), default=0)
        needed = _INDENT + width + 3 + max(map(cells, right), default=0)
        if not right or needed > self.terminal.width:
            for text in (*left, *right):
                yield " " * _INDENT + cut(text, self.terminal.width - _INDENT)
            return
        for at in range(max(len(left), len(right))):
            one = left[at] if at < len(left) else ""
            other = right[at] if at < len(right) else ""
            yield (" " * _INDENT + padded(one, width) + "   " + other).rstrip()
