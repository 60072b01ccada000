"""Elements of a page, with plain texts: the console and the HTML page render each in its own way.

Texts may come from a victim. No element escapes its texts: each renderer does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from msgspec import Struct

HOURS: Final = 24
"""Hours of a day."""

Tone: TypeAlias = Literal["", "strong", "muted", "warning", "alarm", "advice"]


class Head(Struct, frozen=True):
    """The head of a column.

    A terminal cuts a ``flexible`` column where it is too narrow; a ``path`` likewise, at its front.
    HTML breaks every cell except one that is ``short``.
    """

    name: str
    right: bool = False
    flexible: bool = False
    path: bool = False
    short: bool = False


class Fact(Struct, frozen=True):
    """A label and its text."""

    label: str
    text: str
    tone: Tone = ""


class Bar(Struct, frozen=True):
    """A share of a whole, with a text; a ``detail`` is a part of the bar above it."""

    label: str
    part: float
    whole: float
    text: str
    tone: Tone = ""
    detail: bool = False

    @property
    def share(self) -> float:
        """The filled part of the bar, from 0 to 1."""
        return max(0.0, min(1.0, self.part / self.whole)) if self.whole else 0.0


class Paragraph(Struct, frozen=True):
    """Running text."""

    text: str
    tone: Tone = ""


class Bullet(Struct, frozen=True):
    """An item of a list without an order."""

    text: str


class Table(Struct, frozen=True):
    """Rows under their heads; rows of the numbers ``marked`` are marked, with ``mark`` in words.

    ``bar_column`` is the number of a column whose cells HTML draws as bars of the lengths
    ``shares``, from 0 to 1.
    """

    heads: tuple[Head, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: tuple[int, ...] = ()
    mark: str = ""
    bar_column: int | None = None
    shares: tuple[float, ...] = ()


class Step(Struct, frozen=True):
    """A step of a timeline, with its distance from the kill."""

    distance: str
    text: str
    tone: Tone = ""


class Stack(Struct, frozen=True):
    """The frames of a stack, innermost first."""

    title: str
    frames: tuple[str, ...]


class Stacks(Struct, frozen=True):
    """Stacks side by side."""

    stacks: tuple[Stack, ...]


class Verbatim(Struct, frozen=True):
    """Lines as they were logged. A terminal leaves them out: they are longer than the page."""

    title: str
    lines: tuple[str, ...]


class HourGrid(Struct, frozen=True):
    """Numbers by day and hour of the day; each row has :data:`HOURS`."""

    days: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Curve(Struct, frozen=True):
    """A usage over time.

    ``points`` are shares of the width and of the height, from 0 to 1. ``top`` says what the whole
    height is, ``begin`` and ``end`` what is at the left and at the right.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    top: str
    begin: str
    end: str


Element: TypeAlias = (
    Fact | Bar | Paragraph | Bullet | Table | Step | Stacks | Verbatim | HourGrid | Curve
)


class Section(Struct, frozen=True):
    """Elements under a title; ``name`` is the same whatever the title counts."""

    name: str
    title: str
    elements: tuple[Element, ...]


class Page(Struct, frozen=True):
    """A page: its title, one sentence, and sections.

    A terminal leaves out ``subject`` and ``summary``: the sections have all of it.
    """

    title: str
    subject: str
    time: str
    sentence: str
    sections: tuple[Section, ...]
    summary: tuple[Fact, ...] = ()
    hint: str = ""


def known_facts(label: str, text: str | None, tone: Tone = "") -> Iterator[Fact]:
    """Yield a label and its text; nothing without a text."""
    if text:
        yield Fact(label, text, tone)
