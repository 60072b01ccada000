"""Output of pages: colours, width, and where they are written."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType

UNLIMITED: Final = 1 << 16
"""Width in columns of a page that is neither wrapped nor cut."""

_MIN_WIDTH: Final = 60
_MAX_WIDTH: Final = 120
_DEFAULT_WIDTH: Final = 100


def print_page(elements: Iterable[RenderableType], *, pipe_width: int = UNLIMITED) -> None:
    """Print ``elements`` to standard output; a file or a pipe gets ``pipe_width`` columns."""
    # Not by rich itself, which handles a closed pipe in its own way.
    sys.stdout.write(render(elements, open_console(sys.stdout, pipe_width=pipe_width)))


def open_console(
    stream: TextIO, environ: Mapping[str, str] = os.environ, *, pipe_width: int = UNLIMITED
) -> Console:
    """Return a console with the colours and the width of ``stream``.

    Only a terminal gets colours, and none with NO_COLOR (no-color.org) or TERM=dumb. COLUMNS
    overrides the width of a terminal and ``pipe_width``.
    """
    is_terminal = stream.isatty()
    columns = environ.get("COLUMNS", "")
    width = pipe_width
    if is_terminal or (columns.isascii() and columns.isdecimal()):
        terminal_width = shutil.get_terminal_size((_DEFAULT_WIDTH, 0)).columns
        width = max(_MIN_WIDTH, min(_MAX_WIDTH, terminal_width))
    plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return new_console(width, colour=is_terminal and not plain)


def new_console(width: int, *, colour: bool = False) -> Console:
    """Return a console that interprets no text and takes nothing from the environment."""
    return Console(
        file=io.StringIO(),
        width=width,
        height=_DEFAULT_WIDTH,
        color_system="standard" if colour else None,
        force_terminal=colour,
        force_interactive=False,
        force_jupyter=False,
        legacy_windows=False,
        no_color=False,
        markup=False,
        emoji=False,
        highlight=False,
    )


def render(elements: Iterable[RenderableType], console: Console) -> str:
    """Return ``elements`` as text, without blanks at the ends of lines."""
    with console.capture() as captured:
        console.print(Group(*elements))
    return "".join(f"{line.rstrip(' ')}\n" for line in captured.get().split("\n")[:-1])
