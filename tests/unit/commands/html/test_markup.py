"""HTML by construction: what is text stays text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from otel_oom.commands.html.markup import NEW_LINE, Markup, join, tag


class Parsed(HTMLParser):
    """The tags, attributes and text of a piece of HTML, as a parser reads it."""

    def __init__(self, markup: Markup) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(markup.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "</p><img src=x onerror=alert(1)>",
        "\"' onmouseover=alert(1) x='\"",
        "&lt;b&gt; &amp; &#60;script&#62;",
        "<!-- ]]> -->",
        "漢字 é ▶",
    ],
)
def test_a_text_is_one_text_inside_and_as_an_attribute(text: str) -> None:
    parsed = Parsed(tag("p", text, title=text))
    assert parsed.tags == ["p"]
    assert parsed.attributes == [("title", text)]
    assert parsed.text == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a\n\x00b", "a\\n\\x00b"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("a\u2066\u200b\u2028", "a\\u2066\\u200b\\u2028"),
        ("a\tb", "a    b"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_browser_obeys_is_visible(text: str, escaped: str) -> None:
    assert Parsed(tag("p", text)).text == escaped


def test_a_text_is_bounded() -> None:
    text = Parsed(tag("p", "<" * (1 << 20))).text
    assert len(text) < 5_000
    assert text.endswith("<…")


def test_only_markup_is_markup() -> None:
    nested = tag("ul", (tag("li", each) for each in "<>"), class_="a", aria_label="b", id_=None)
    assert nested.source == '<ul class="a" aria-label="b"><li>&lt;</li><li>&gt;</li></ul>'
    assert join("<", NEW_LINE, tag("br")).source == "&lt;\n<br>"
