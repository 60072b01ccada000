"""Write the names of months and days of all locales that replay reads.

Sources are the Common Locale Data Repository, by Babel (``pip install babel``), and the locales of
the C library in ``/usr/share/i18n/locales`` (Debian's package ``locales``), which strftime(3) uses.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from otel_oom.commands.replay.formats.date_names import normalize_name

TARGET: Final = Path("otel_oom/commands/replay/formats/date_names.txt")
LOCALES: Final = Path("/usr/share/i18n/locales")
_MONTHS: Final = 12
_DAYS: Final = 7
_CODE: Final = re.compile(r"<U([0-9A-F]{4,8})>")
_MONTH_KEYS: Final = ("abmon", "mon", "ab_alt_mon", "alt_mon")
_DAY_KEYS: Final = ("abday", "day")

Names = Iterator[Sequence[str]]


def libc_names(text: str) -> tuple[list[list[str]], list[list[str]]]:
    """Return the lists of month names and of day names, from Sunday, of a locale's source."""
    text = re.sub(r"(?m)^%.*\n|(?<=[/;\"])[ \t]*%[^\"\n]*$", "", text)
    found: dict[str, list[str]] = {}
    for key in (*_MONTH_KEYS, *_DAY_KEYS):
        match = re.search(rf'(?m)^{key}[\s/]+((?:"[^"]*"[;/\s]*)+)', text)
        if match:
            names = re.findall(r'"([^"]*)"', re.sub(r"/\n\s*", "", match[1]))
            found[key] = [_CODE.sub(lambda code: chr(int(code[1], 16)), name) for name in names]
    months = [found[key] for key in _MONTH_KEYS if len(found.get(key, ())) == _MONTHS]
    days = [found[key] for key in _DAY_KEYS if len(found.get(key, ())) == _DAYS]
    return months, days


def _cldr_names() -> Iterator[tuple[list[list[str]], list[list[str]]]]:
    from babel import Locale, localedata  # type: ignore[import-not-found]  # noqa: PLC0415  a tool's

    for name in localedata.locale_identifiers():
        locale = Locale.parse(name)
        widths = [
            (form, width)
            for form in ("format", "stand-alone")
            for width in ("abbreviated", "wide", "short")
        ]
        months = [
            [locale.months[form][width][month] for month in range(1, _MONTHS + 1)]
            for form, width in widths
            if width in locale.months[form]
        ]
        days = [
            [locale.days[form][width][(day - 1) % _DAYS] for day in range(_DAYS)]
            for form, width in widths
            if width in locale.days[form]
        ]
        yield months, days


def main() -> None:
    """Write the table."""
    sources = [
        libc_names(path.read_text("utf-8", "replace"))
        for path in sorted(LOCALES.iterdir())
        if path.is_file()
    ]
    tables: Mapping[str, dict[int, Counter[str]]] = {
        "month": defaultdict(Counter),
        "day": defaultdict(Counter),
    }
    for months, days in (*sources, *_cldr_names()):
        for kind, lists, first in (("month", months, 1), ("day", days, 0)):
            for names in lists:
                for number, name in enumerate(names, first):
                    tables[kind][number][normalize_name(name)] += 1
    with TARGET.open("w", encoding="utf-8") as file:
        for kind, numbers in tables.items():
            users: Counter[str] = Counter(name for names in numbers.values() for name in names)
            for number, counts in sorted(numbers.items()):
                words = [
                    name if users[name] == 1 else f"{name}={count}"
                    for name, count in sorted(counts.items())
                    if name and not name.isdigit()
                ]
                file.write(f"{kind}\t{number}\t" + "\t".join(words) + "\n")


if __name__ == "__main__":
    main()
