"""A whole HTML page, from a page of elements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Final

from otel_oom import __version__
from otel_oom.commands.elements import Page, Section
from otel_oom.commands.html.elements import render_elements, render_facts
from otel_oom.commands.html.markup import Markup, style_sheet, tag

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""Forbid scripts and whatever is not in the page, should an escape ever be missing."""
_FIRST: Final = "advice"
"""The section that stands above the others: a reader of a page begins at its top."""


def render_document(page: Page) -> str:
    """Return the page as one file without references."""
    first = [section for section in page.sections if section.name == _FIRST]
    rest = [section for section in page.sections if section.name != _FIRST]
    body = tag("body", _header(page, first), tag("main", map(_section, rest)), _footer(page))
    return f"<!DOCTYPE html>\n{tag('html', _head(page), body, lang='en').source}\n"


def _head(page: Page) -> Markup:
    css = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="robots", content="noindex"),
        tag("title", f"{_title(page)}, {page.time}"),
        style_sheet(css),
    )


def _header(page: Page, first: Iterable[Section]) -> Markup:
    return tag(
        "header",
        tag("p", page.title if page.subject else "", tag("time", page.time), class_="kicker"),
        tag("h1", page.subject or page.title),
        tag("p", page.sentence, class_="lead"),
        render_facts(page.summary) if page.summary else "",
        map(_section, first),
    )


def _section(section: Section) -> Markup:
    contents = render_elements(section.elements)
    return tag("section", tag("h2", section.title), contents, class_=section.name)


def _footer(page: Page) -> Markup:
    return tag("footer", tag("p", _lines(page)))


def _lines(page: Page) -> Iterator[str]:
    yield f"otel-oom {__version__}. Times are in UTC."
    if page.hint:
        yield f" {page.hint}"


def _title(page: Page) -> str:
    return f"{page.title}: {page.subject}" if page.subject else page.title
