"""What may go on a terminal, and how wide it is there."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

_NARROWEST: Final = 60
_WIDEST: Final = 120
_UNKNOWN: Final = 100
"""The width where nobody says one: in a file, or in a pipe."""

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "yellow": "33", "green": "32"}
_WIDE: Final = {"W", "F"}
_OBEYED: Final = {"Zl", "Zp"}
_JOINED: Final = {"Mn", "Me"}
"""On the column of the character before."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_FULL: Final = "█"


def printable(text: str) -> str:
    """``text`` with nothing in it that a terminal would obey: controls stand as escapes."""
    return "".join(
        char.encode("unicode_escape").decode() if _is_obeyed(char) else char for char in text
    )


def _is_obeyed(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in _OBEYED


def cells(text: str) -> int:
    """How many columns a printable text takes: two for a character of East Asian width."""
    return sum(map(_cells, text))


def _cells(char: str) -> int:
    if char.isascii():
        return 1
    if unicodedata.category(char) in _JOINED:
        return 0
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1


def cut(text: str, most: int, *, front: bool = False) -> str:
    """``text`` in at most so many columns: without its end or, from the ``front``, its start."""
    if cells(text) <= most:
        return text
    kept: list[str] = []
    left = most - 1
    for char in reversed(text) if front else text:
        left -= cells(char)
        if left < 0:
            break
        kept.append(char)
    return "…" + "".join(reversed(kept)) if front else "".join(kept) + "…"


def padded(text: str, width: int, *, right: bool = False) -> str:
    """``text`` with spaces up to so many columns, before it if it is to stand ``right``."""
    spaces = " " * max(0, width - cells(text))
    return spaces + text if right else text + spaces


def fitted(widths: Sequence[int], room: int, flexible: Sequence[int], least: int) -> list[int]:
    """Widths of columns that take at most ``room`` together, as far as that can be had.

    Columns that are ``flexible`` give up what is too much, the first of them first, down to
    ``least``.
    """
    fit = list(widths)
    over = sum(fit) - room
    for column in flexible:
        less = max(0, min(over, fit[column] - least))
        fit[column] -= less
        over -= less
    return fit


def bar(share: float, width: int) -> str:
    """A bar of so many columns, of which ``share`` is filled: from 0 to 1, to an eighth."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return (_FULL * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def wrapped(text: str, width: int) -> Iterator[str]:
    """``text`` in lines of at most so many columns, broken at spaces where there are any."""
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if cells(joined) <= width:
            line = joined
            continue
        if line:
            yield line
        line = word
        while cells(line) > width:
            piece = _piece(line, width)
            yield piece
            line = line[len(piece) :]
    yield line


def _piece(text: str, width: int) -> str:
    taken = 0
    for at, char in enumerate(text):
        taken += cells(char)
        if taken > width and at:
            return text[:at]
    return text


@dataclass(frozen=True, slots=True)
class Terminal:
    """What is written to: its width in columns, and whether it shows colours."""

    width: int = _UNKNOWN
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str] = os.environ) -> Terminal:
        """The terminal behind ``stream``, if it is one.

        Colours are for terminals alone, and not where NO_COLOR (no-color.org) is set or TERM says
        ``dumb``; COLUMNS tells the width before the terminal does.
        """
        tty = stream.isatty()
        said = environ.get("COLUMNS", "")
        width = _UNKNOWN
        if tty or (said.isascii() and said.isdecimal()):
            width = shutil.get_terminal_size((_UNKNOWN, 0)).columns
        plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
        return cls(max(_NARROWEST, min(_WIDEST, width)), tty and not plain)

    def styled(self, text: str, *styles: str) -> str:
        """``text`` in some of ``bold``, ``dim``, ``red``, ``yellow``, ``green``, if it can."""
        if not self.colour or not styles or not text:
            return text
        return f"\x1b[{';'.join(_STYLES[style] for style in styles)}m{text}\x1b[0m"
