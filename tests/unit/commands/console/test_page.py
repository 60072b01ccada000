"""Elements of a page: nothing that a terminal would obey, and nothing wider than it is."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.console import RenderableType

from otel_oom.commands.console import page
from otel_oom.commands.console.output import UNLIMITED, new_console, open_console, render
from otel_oom.commands.elements import Head
from otel_oom.model.text import escape_for_terminal
from tests.testlib.command import clean_environ

WIDE = "漢字かな"
MARKUP = "[red]x[/red] [link=http://x]y[/link] :boom: {{z}} 1234"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(elements: Sequence[RenderableType], width: int, *, colour: bool = False) -> list[str]:
    return render(elements, new_console(width, colour=colour)).splitlines()


@pytest.mark.parametrize("char", ["\x1b", "\n", "\r", "\x07", "\x9b", "\u202e", "\u2028", "\udc80"])
def test_controls_bidi_marks_and_line_separators_are_escaped(char: str) -> None:
    escaped = escape_for_terminal(f"a{char}b")
    assert escaped.isprintable()
    assert escaped.isascii()
    assert (escaped[0], escaped[1], escaped[-1]) == ("a", "\\", "b")


def test_other_scripts_are_not_escaped() -> None:
    assert escape_for_terminal(f"café {WIDE} ↑") == f"café {WIDE} ↑"


@pytest.mark.parametrize("hostile", [MARKUP, "\x1b[31mx\x1b[0m", "\u202eabc\n\t", "a\\[b]"])
@pytest.mark.parametrize("colour", [False, True])
def test_no_element_interprets_its_text(hostile: str, *, colour: bool) -> None:
    for element in (
        page.text(hostile),
        page.heading(hostile),
        page.paragraph(hostile),
        page.item("•", page.text(hostile)),
        *page.row("label", hostile),
        page.bar("label", 1, 2, hostile),
        page.definitions([("name", [hostile])]),
        page.definitions([(hostile, ["text"])]),
        page.table([Head("A", path=True), Head("B")], [(hostile, "b")]),
        page.marked_table([Head("A"), Head("B", flexible=True)], [("a", hostile)], [0]),
        page.columns(["a"], [hostile]),
    ):
        text = "\n".join(lines([element], UNLIMITED, colour=colour))
        assert escape_for_terminal(hostile) in text
        assert "\x1b[31m" not in text


@pytest.mark.parametrize("path", [False, True])
@pytest.mark.parametrize("text", ["a" * 50, WIDE * 9, "/a/b/" + "c" * 90])
def test_a_cell_that_is_too_wide_is_cut_at_the_right_end(text: str, *, path: bool) -> None:
    heads = [Head("A", flexible=not path, path=path), Head("B")]
    _, line = lines([page.table(heads, [(text, "b" * 18)])], 40)
    cell = line.removesuffix("b" * 18).strip()
    assert 18 <= cell_len(cell) <= 20
    assert cell[0 if path else -1] == "…"
    assert (text.endswith if path else text.startswith)(cell.strip("…"))
    _, line = lines([page.table(heads, [("short", "b")])], 40)
    assert line == "short  b"


@pytest.mark.parametrize("width", [30, 45, 60, 61, 70, 99])
def test_a_table_has_all_columns_at_any_width(width: int) -> None:
    heads = [Head("A"), Head("B", flexible=True), Head("C", path=True), Head("D", right=True)]
    rows = [("a" * 15, "b" * 30, "/c" * 20, "d" * 5), ("a", "b", "c", "d")]
    head, *body = lines([page.table(heads, rows)], width)
    assert head.split() == ["A", "B", "C", "D"][: len(head.split())]
    assert all(cell_len(line) <= width for line in (head, *body))
    if width >= 15 + 10 + 10 + 5 + 3 * 2:
        assert [len(line.split()) for line in body] == [4, 4]
        assert body[0].endswith("c  ddddd")


def test_a_table_is_aligned_by_the_columns_of_a_terminal() -> None:
    heads = [Head("A"), Head("N", right=True), Head("B")]
    _, wide, ascii_ = lines([page.table(heads, [(WIDE, "7", "b"), ("x", "123", "c")])], 60)
    assert wide == f"{WIDE}    7  b"
    assert ascii_ == "x         123  c"


@pytest.mark.parametrize(
    "text", ["some words " * 30, "x" * 300, f"{WIDE * 50} and {WIDE}", "e\u0301"]
)
def test_a_wrapped_text_fits_and_loses_nothing(text: str) -> None:
    wrapped = lines([page.text(text)], 37)
    assert all(cell_len(line) <= 37 for line in wrapped)
    assert "".join(wrapped).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(("share", "full"), [(0.0, 0), (0.5, 20), (1.0, 40), (7.0, 40), (-1.0, 0)])
def test_a_bar_is_as_full_as_its_share(share: float, full: int) -> None:
    (line,) = lines([page.bar("label", share * 8, 8, "text")], 100)
    bar = line.partition("▕")[2].partition("▏ text")[0]
    assert (bar.count("█"), len(bar)) == (full, 40)
    (line,) = lines([page.bar("label", 1, 0, "text")], 100)
    assert "█" not in line


def test_only_terminals_get_colours() -> None:
    def output(stream: io.StringIO, environ: dict[str, str]) -> str:
        console = open_console(stream, environ)
        return render([page.text("x", "bold red"), *page.row("a", "b", "green")], console)

    assert output(Terminal(), {"TERM": "xterm"}).startswith("\x1b[1;31mx\x1b[0m")
    for stream, environ in (
        (io.StringIO(), {"TERM": "xterm"}),
        (io.StringIO(), {"TERM": "xterm", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}),
        (Terminal(), {"TERM": "dumb"}),
    ):
        assert "\x1b" not in output(stream, environ)


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("3", 60), ("9999", 120), ("x", 100)])
def test_the_width_is_that_of_columns_within_bounds(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert open_console(io.StringIO(), pipe_width=100).width == width


def test_a_pipe_gets_whole_lines() -> None:
    long = "/x" * 2000
    console = open_console(io.StringIO(), {})
    text = render([page.table([Head("A", path=True)], [(long,)]), page.paragraph(long)], console)
    assert text == f"A\n{long}\n  {long}\n"


AGENT = """
import pkgutil, sys
import otel_oom.cli
for package in ("agent", "capture", "snapshot", "store", "enrich", "otlp", "export", "config"):
    __import__(f"otel_oom.{package}")
    path = sys.modules[f"otel_oom.{package}"].__path__
    for module in pkgutil.walk_packages(path, f"otel_oom.{package}."):
        if not module.name.endswith("child_main"):
            __import__(module.name)
otel_oom.cli.build_parser().parse_args(["run"])
"""
JSON = """
import otel_oom.commands.demo.run, otel_oom.commands.doctor.report, otel_oom.commands.queue
import otel_oom.commands.history.events, otel_oom.commands.history.show
import otel_oom.commands.history.report.run, otel_oom.commands.html.output
import otel_oom.commands.replay.run
"""


@pytest.mark.parametrize("code", [AGENT, JSON], ids=["agent", "JSON"])
def test_neither_the_agent_nor_json_needs_rich(code: str) -> None:
    check = (
        "import sys; print(sorted(name for name in sys.modules if name.split('.')[0] == 'rich'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"],
        env=clean_environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
