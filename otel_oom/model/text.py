"""Text that others chose: decode it, escape it, quote it."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+,…\-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def decode_bytes(raw: bytes) -> str:
    r"""Decode UTF-8, with ``\xNN`` for each byte that is not part of it."""
    return raw.decode("utf-8", errors="backslashreplace")


def escape_controls(text: str) -> str:
    r"""Replace control characters other than the tab by ``\xNN``: the result is one line."""
    return text if text.isprintable() else _CONTROL.sub(lambda found: _escape(found[0]), text)


def escape_nonprintable(text: str) -> str:
    r"""Replace every character that is not printable by ``\xNN``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def escape_for_terminal(text: str) -> str:
    """Escape every character that a terminal would obey, also line separators and bidi controls."""
    return "".join(
        char.encode("unicode_escape").decode() if _is_obeyed(char) else char for char in text
    )


def quote_text(text: str) -> str:
    """Return a name as it is if it is plain, else as a JSON string."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _is_obeyed(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in {"Zl", "Zp"}


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}"
