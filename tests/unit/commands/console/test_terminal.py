"""What goes on a terminal: nothing that it would obey, and nothing wider than it is."""

from __future__ import annotations

import io

import pytest

from otel_oom.commands.console.terminal import Terminal, bar, cells, cut, padded, printable, wrapped

WIDE = "漢字かな"


class Tty(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.mark.parametrize("char", ["\x1b", "\n", "\r", "\x07", "\x9b", "\u202e", "\u2028", "\udc80"])
def test_what_a_terminal_obeys_stands_as_an_escape(char: str) -> None:
    """Controls, marks that turn the text around, separators of lines, halves of characters."""
    told = printable(f"a{char}b")
    assert told.isprintable()
    assert told.isascii()
    assert (told[0], told[1], told[-1]) == ("a", "\\", "b")


def test_what_people_write_stays() -> None:
    """Names in other scripts are not escaped."""
    assert printable(f"café {WIDE} ↑") == f"café {WIDE} ↑"


def test_a_text_takes_the_columns_that_a_terminal_gives_it() -> None:
    """East Asian characters take two, an accent of its own none."""
    assert (cells(WIDE), cells("e\u0301"), cells("abc")) == (8, 1, 3)
    assert cells(padded(WIDE, 10)) == 10
    assert padded("7", 3, right=True) == "  7"


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("text", ["a" * 50, WIDE * 9, "/a/b/" + "c" * 90])
def test_a_cut_text_fits_and_says_that_it_is_cut(text: str, front: bool) -> None:  # noqa: FBT001
    """No column more than there is; the end that tells is kept."""
    told = cut(text, 20, front=front)
    assert 18 <= cells(told) <= 20
    assert told[0 if front else -1] == "…"
    assert (text.endswith if front else text.startswith)(told.strip("…"))
    assert cut("short", 20, front=front) == "short"


@pytest.mark.parametrize("text", ["some words " * 30, "x" * 300, f"{WIDE * 50} and {WIDE}", ""])
def test_a_wrapped_text_fits_and_loses_nothing(text: str) -> None:
    """No line is too wide, and joined they are the text again."""
    lines = list(wrapped(text, 37))
    assert all(cells(line) <= 37 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(("share", "full"), [(0.0, 0), (0.5, 10), (1.0, 20), (7.0, 20), (-1.0, 0)])
def test_a_bar_is_as_full_as_its_share(share: float, full: int) -> None:
    """Never longer than its room, whatever the numbers."""
    told = bar(share, 20)
    assert (told.count("█"), len(told)) == (full, 20)


def test_colours_are_for_terminals_alone() -> None:
    """Neither a pipe, nor who set NO_COLOR, nor a dumb terminal gets any."""
    assert Terminal.of(Tty(), {"TERM": "xterm"}).styled("x", "red") == "\x1b[31mx\x1b[0m"
    for stream, environ in (
        (io.StringIO(), {"TERM": "xterm"}),
        (Tty(), {"TERM": "xterm", "NO_COLOR": "1"}),
        (Tty(), {"TERM": "dumb"}),
    ):
        assert Terminal.of(stream, environ).styled("x", "red", "bold") == "x"


@pytest.mark.parametrize(("said", "width"), [("80", 80), ("3", 60), ("9999", 120), ("x", 100)])
def test_the_width_is_what_columns_says_within_bounds(
    monkeypatch: pytest.MonkeyPatch, said: str, width: int
) -> None:
    """A page stays readable on any screen."""
    monkeypatch.setenv("COLUMNS", said)
    assert Terminal.of(io.StringIO()).width == width
