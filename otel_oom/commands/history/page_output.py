"""Output of a page: on the terminal, or as an HTML file. Each imports its renderer late."""

from __future__ import annotations

import sys
from typing import Final

from otel_oom.commands.elements import Page

_PIPE_WIDTH: Final = 100


def print_or_write(page: Page, html: str | None) -> int:
    """Print the page; with ``html``, write it to this file instead; return the exit code."""
    if html is None:
        from otel_oom.commands.console.elements import render_page  # noqa: PLC0415  rich: 30 ms
        from otel_oom.commands.console.output import print_page  # noqa: PLC0415  likewise

        print_page(render_page(page), pipe_width=_PIPE_WIDTH)
        return 0
    from otel_oom.commands.html.output import PageWriteError, write_page  # noqa: PLC0415  for HTML

    try:
        write_page(page, html)
    except PageWriteError as error:
        sys.stderr.write(f"otel-oom: {error}\n")
        return 1
    return 0
