"""Escapes for text that others chose. Without rich: error messages need them as well."""

from __future__ import annotations

import unicodedata
from typing import Final

_LINE_SEPARATORS: Final = {"Zl", "Zp"}


def escape_controls(text: str) -> str:
    """Escape every character of ``text`` that a terminal would obey, also bidi controls."""
    return "".join(
        char.encode("unicode_escape").decode() if _is_control(char) else char for char in text
    )


def _is_control(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in _LINE_SEPARATORS
