"""Dates as strftime(3) of the C library writes them in its locales: always the same moment.

They are what ``date '+%a %b %e %H:%M:%S %Y'`` prints with each locale of glibc 2.36.
"""

# ruff: noqa: RUF001  the letters are those of the languages

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

MOMENT: Final = (2025, 8, 12, 3, 54, 3)

LOCALE_DATES: Final[Mapping[str, str]] = {
    "Arabic": "ث آب 12 03:54:03 2025",
    "Bulgarian": "вт авг 12 03:54:03 2025",
    "Catalan": "dt. d’ag. 12 03:54:03 2025",
    "Chinese": "二 8月 12 03:54:03 2025",
    "Croatian": "uto kol 12 03:54:03 2025",
    "Czech": "Út srp 12 03:54:03 2025",
    "Danish": "tir aug 12 03:54:03 2025",
    "Dutch": "di aug 12 03:54:03 2025",
    "Finnish": "ti elo 12 03:54:03 2025",
    "French": "mar. août 12 03:54:03 2025",
    "German": "Di Aug 12 03:54:03 2025",
    "Greek": "Τρι Αυγ 12 03:54:03 2025",
    "Hebrew": "ג' אוג 12 03:54:03 2025",
    "Hindi": "मंगल अग॰ 12 03:54:03 2025",
    "Hungarian": "k aug 12 03:54:03 2025",
    "Indonesian": "Sel Agu 12 03:54:03 2025",
    "Italian": "mar ago 12 03:54:03 2025",
    "Japanese": "火  8月 12 03:54:03 2025",
    "Korean": "화  8월 12 03:54:03 2025",
    "Lithuanian": "An rugp. 12 03:54:03 2025",
    "Norwegian": "ti. aug. 12 03:54:03 2025",
    "Persian": "سه‌شنبه اوت 12 03:54:03 2025",
    "Polish": "wto sie 12 03:54:03 2025",
    "Portuguese": "ter ago 12 03:54:03 2025",
    "Romanian": "Ma aug 12 03:54:03 2025",
    "Russian": "Вт авг 12 03:54:03 2025",
    "Slovak": "Ut aug 12 03:54:03 2025",
    "Spanish": "mar ago 12 03:54:03 2025",
    "Swedish": "tis aug 12 03:54:03 2025",
    "Thai": "อ. ส.ค. 12 03:54:03 2025",
    "Turkish": "Sal Ağu 12 03:54:03 2025",
    "Ukrainian": "вт сер 12 03:54:03 2025",
    "Vietnamese": "T3 Thg 8 12 03:54:03 2025",
}


def format_table() -> Iterator[str]:
    """Yield the rows of the table of locales."""
    yield "| language | a line of `dmesg -T` begins with |"
    yield "| --- | --- |"
    for language, date in LOCALE_DATES.items():
        yield f"| {language} | `[{date}]` |"
