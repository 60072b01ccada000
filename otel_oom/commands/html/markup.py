"""HTML by construction: plain text is escaped, and only :func:`tag` makes markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final, TypeAlias

from msgspec import Struct

from otel_oom.model.text import escape_for_terminal

_MAX_TEXT_CHARS: Final = 1 << 12
"""Bound of one text: the longest path (PATH_MAX)."""
_VOID: Final = frozenset({"meta", "br"})


class Markup(Struct, frozen=True):
    """A piece of HTML. Texts of others never become one, except by :func:`tag`."""

    source: str


NEW_LINE: Final = Markup("\n")
"""In a text, a line break is escaped."""

Content: TypeAlias = "str | Markup | Iterable[str | Markup]"


def tag(element: str, /, *contents: Content, **attributes: str | None) -> Markup:
    """Return an element; each text in it is escaped, and an attribute ``None`` is left out.

    Names of attributes are in Python's form: ``class_``, ``aria_label``.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in _VOID:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{join(*contents).source}</{element}>")


def join(*contents: Content) -> Markup:
    """Return pieces one after the other."""
    return Markup("".join(map(_source, contents)))


def style_sheet(css: str) -> Markup:
    """Return a style sheet of our own, which has no text of others."""
    return Markup(f"<style>\n{css}</style>")


def _source(content: Content) -> str:
    if isinstance(content, Markup):
        return content.source
    if isinstance(content, str):
        return _escape(content)
    return "".join(map(_source, content))


def _escape(text: str) -> str:
    """Escape what HTML reads as markup, and what a browser obeys or hides: controls, bidi."""
    if len(text) > _MAX_TEXT_CHARS:
        text = f"{text[:_MAX_TEXT_CHARS]}…"
    return html.escape(escape_for_terminal(text.replace("\t", "    ")))
