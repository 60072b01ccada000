"""The browser as a fixture, and the pictures of pages in docs/."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from otel_oom.commands import html
from tests.testlib.browser.chromium import PROGRAMS, Tab, find_chromium, run_chromium
from tests.testlib.browser.look import check_page
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require

PICTURES: Final = REPOSITORY / "docs/pictures"
INDEX: Final = PICTURES / "index.json"
"""The facts about each picture: its headings, and the style sheet that it was taken with."""
STYLE_SHEET: Final = Path(html.__path__[0]) / "style.css"

_WIDTH: Final = 1120

CheckedPage: TypeAlias = Callable[[Path, str | None], dict[str, Any]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which `make pictures` writes the pictures."""
    parser.addoption("--pictures", action="store_true", help="write docs/pictures")


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    """Run Chromium without a display; it starts within a second when idle."""
    require(find_chromium() is not None, f"{PROGRAMS[0]} is missing")
    with run_chromium() as tab:
        yield tab


@pytest.fixture
def look_at(browser: Tab, request: pytest.FixtureRequest) -> CheckedPage:
    """Return a function that checks a page, takes its picture on request, returns its measures."""

    def look(page: Path, picture: str | None) -> dict[str, Any]:
        measures = check_page(browser, page)
        if picture and request.config.option.pictures:
            _write_picture(browser, picture, measures["headings"])
        return measures

    return look


def digest_style_sheet() -> str:
    """Return what changes with the look of all pages."""
    return hashlib.sha256(STYLE_SHEET.read_bytes()).hexdigest()[:16]


def _write_picture(tab: Tab, name: str, headings: list[str]) -> None:
    PICTURES.mkdir(exist_ok=True)
    tab.show_as(_WIDTH)
    (PICTURES / f"{name}.webp").write_bytes(tab.take_small_picture())
    facts = json.loads(INDEX.read_text("utf-8")) if INDEX.exists() else {}
    facts[name] = {"headings": headings, "style": digest_style_sheet()}
    INDEX.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", "utf-8")
