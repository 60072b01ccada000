"""Where a page is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from otel_oom.commands.elements import Page
from otel_oom.commands.html.document import render_document
from otel_oom.model.text import escape_for_terminal

STDOUT: Final = "-"


class PageWriteError(Exception):
    """The file can't be written; the message has its name and the reason."""


def write_page(page: Page, destination: str) -> None:
    """Write the page to a file, or to standard output for ``-``. Raises PageWriteError.

    It is ASCII, so that it reads the same whatever encoding a web server or a mail names.
    """
    document = render_document(page).encode("ascii", "xmlcharrefreplace")
    if destination == STDOUT:
        sys.stdout.write(document.decode())
    else:
        try:
            Path(destination).write_bytes(document)
        except OSError as error:
            name = escape_for_terminal(destination)
            raise PageWriteError(f"Could not write {name}: {error.strerror}.") from error
