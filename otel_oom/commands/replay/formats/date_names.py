"""Names of months and days in the locales of the C library and of CLDR.

strftime(3) writes them in the locale of dmesg(1) or journalctl(1). ``date_names.txt`` is made by
``scripts/generate_date_names.py``. A name may stand for one month here and another there (``lis``),
so each has several, the most common first; the day of the week decides.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Final

_TABLE: Final = Path(__file__).with_name("date_names.txt")
_ENGLISH_NAMES: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_ENGLISH: Final = {name: (number,) for number, name in enumerate(_ENGLISH_NAMES, 1)}
_NUMBERED: Final = re.compile(r"(1[0-2]|[1-9])(?:月|월)")
_MARKS: Final = "\u200e\u200f\u061c."


def find_months(name: str) -> tuple[int, ...]:
    """Return the months, from 1, that a name stands for in any locale, the most common first."""
    word = normalize_name(name)
    if word in _ENGLISH:
        return _ENGLISH[word]
    if numbered := _NUMBERED.fullmatch(word):
        return (int(numbered[1]),)
    return _table()["month"].get(word, ())


def find_days(name: str) -> tuple[int, ...]:
    """Return the days of the week, from Sunday as 0, that a name stands for in any locale."""
    return _table()["day"].get(normalize_name(name), ())


def normalize_name(name: str) -> str:
    """Return a name in the case and composition, and without the dots, by which it is found."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(char for char in folded if char not in _MARKS).strip()


@cache
def _table() -> dict[str, dict[str, tuple[int, ...]]]:
    users: dict[str, dict[str, list[tuple[int, int]]]] = {"month": {}, "day": {}}
    for line in _TABLE.read_text("utf-8").splitlines():
        kind, number, *names = line.split("\t")
        for entry in names:
            name, _, count = entry.partition("=")
            users[kind].setdefault(name, []).append((-int(count or "1"), int(number)))
    return {
        kind: {name: tuple(number for _, number in sorted(uses)) for name, uses in names.items()}
        for kind, names in users.items()
    }
