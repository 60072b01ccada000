"""Look at a page in Chromium: light and dark, narrow and wide, and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.testlib.browser.chromium import Tab

NARROW: Final = 360
WIDE: Final = 1280
PAPER: Final = 703
"""Pixels between the margins of A4: 186 mm."""

_MEASURE: Final = Path(__file__).with_name("measure.js")
_TAGS: Final = frozenset(
    {
        *("html", "head", "meta", "style", "title", "body", "header", "main", "section", "footer"),
        *("h1", "h2", "h3", "p", "time", "b", "span", "div", "pre", "details", "summary"),
        *("dl", "dt", "dd", "ol", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"),
        *("svg", "polygon", "polyline"),
    }
)
_ATTRIBUTES: Final = frozenset(
    {
        *("charset", "http-equiv", "name", "content", "lang", "class", "style", "scope"),
        *("role", "aria-hidden", "aria-label", "tabindex", "data-label"),
        *("viewBox", "preserveAspectRatio", "points"),
    }
)


def measure(tab: Tab) -> dict[str, Any]:
    """Return the faults of layout and contrast, and what the page is made of."""
    value: dict[str, Any] = tab.run(_MEASURE.read_text(encoding="utf-8"))
    return value


def check_page(tab: Tab, page: Path) -> dict[str, Any]:
    """Check the page in every form in which a person reads it; return its measures when wide.

    It loads nothing, runs no script, has only elements of ours, is readable without scrolling
    sideways, and its texts have the contrast of WCAG's level AA.
    """
    tab.open(page)
    for width in (NARROW, 700, WIDE):
        for dark in (False, True):
            tab.show_as(width, dark=dark)
            _check_measures(measure(tab), f"{page.name}, {width} px, dark: {dark}")
    tab.show_as(PAPER, dark=True, media="print")
    printed = measure(tab)
    _check_measures(printed, f"{page.name}, printed")
    assert printed["reportHeight"] is None or printed["reportHeight"] > 0, "closed on paper"
    pdf = tab.print_pdf()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    tab.show_as(WIDE)
    wide = measure(tab)
    assert _TAGS.issuperset(wide["tags"]), set(wide["tags"]) - _TAGS
    assert _ATTRIBUTES.issuperset(wide["attributes"]), set(wide["attributes"]) - _ATTRIBUTES
    assert tab.requested_urls() == [page.as_uri()]
    complaints = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert tab.texts_of(*complaints) == []
    return wide


def _check_measures(measures: dict[str, Any], form: str) -> None:
    assert not measures["overflowing"], f"{form}: {measures['overflowing']}"
    assert measures["scrollWidth"] <= measures["width"], form
    assert not measures["faint"], f"{form}: {measures['faint']}"
    if "printed" not in form:
        assert not measures["tiny"], f"{form}: {measures['tiny']}"
