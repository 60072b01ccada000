"""Generated blocks of Markdown pages, each between two comments with its name."""

from __future__ import annotations

from pathlib import Path


def read_block(page: Path, name: str) -> str:
    """Return what is between the markers of ``name``, without the newlines around it."""
    return _split(page.read_text(encoding="utf-8"), name)[1].strip("\n")


def replace_block(text: str, name: str, content: str) -> str:
    """Return the text of a page with ``content`` between the markers of ``name``."""
    before, _, after = _split(text, name)
    return f"{before}\n{content}\n{after}"


def write_block(page: Path, name: str, content: str) -> None:
    """Write ``content`` between the markers of ``name``."""
    text = page.read_text(encoding="utf-8")
    page.write_text(replace_block(text, name, content), encoding="utf-8")


def _split(text: str, name: str) -> tuple[str, str, str]:
    """Return the text up to the first marker, between both, and from the second one.

    Raises:
        ValueError: a marker is missing.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found_begin, rest = text.partition(begin)
    block, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the page lacks {begin} or {end}")
    return before + begin, block, end + after
