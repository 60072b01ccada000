"""The HTML page: what it contains, what it cannot load, and that it is ASCII."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_oom.commands.elements import Fact, HourGrid, Page, Section
from otel_oom.commands.history.page import describe_event
from otel_oom.commands.html.document import render_document
from otel_oom.commands.html.output import write_page
from tests.testlib.samples import history
from tests.testlib.samples.events import sample_enriched_kill
from tests.testlib.samples.hostile_event import HOSTILE, hostile_entry

EMPTY = Page("OOM report", "", "2026-11-28T09:00:00Z", "No OOM kills.", ())


def document() -> str:
    entry = history.entry(sample_enriched_kill(original="[1.0] first\n[2.0]  second"))
    return render_document(describe_event(entry, [entry]))


def test_it_forbids_all_that_is_not_in_it() -> None:
    text = document()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src &#x27;none&#x27;; style-src &#x27;unsafe-inline&#x27;")
    assert not re.search(r"(?i)<script|<link|<img|<iframe|\bsrc=|\bhref=|url\(|@import", text)


def test_the_advice_stands_above_the_sections() -> None:
    text = document()
    order = ["<h1>java (4711)</h1>", "<h2>Advice</h2>", "<main>", "<h2>Victim</h2>", "<h2>Limit"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_the_report_is_as_it_was_logged() -> None:
    assert "<summary>2 lines, as logged</summary>" in document()
    assert "<pre>[1.0] first\n[2.0]  second\n</pre>" in document()


def test_the_victim_is_marked_in_words_and_bars_have_texts() -> None:
    text = document()
    row = re.search(r'<tr role="row" class="marked">(.*?)</tr>', text)
    assert row
    assert '<span class="badge">killed</span>' in row[1]
    assert 'style="width: 100.0%"' in row[1]
    assert "64.0 MiB of 64.0 MiB (100%)" in text


def test_no_text_of_a_victim_becomes_markup() -> None:
    entry = hostile_entry()
    text = render_document(describe_event(entry, [entry, entry]))
    assert text.count("&lt;script&gt;window.pwned = 1&lt;/script&gt;") > 20
    assert not re.search(r"<(?!!DOCTYPE|/?(?:[a-z1-3]+)[ >])", text)
    assert not re.search(r"(?i)<(script|img|svg|iframe|base)\b", text)
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_a_page_of_long_texts_is_bounded() -> None:
    entry = hostile_entry(HOSTILE * 100)
    assert len(render_document(describe_event(entry, [entry]))) < 4_000_000


@pytest.mark.parametrize("subject", ["", "café ▶ 漢字"])
def test_the_file_is_ascii(tmp_path: Path, subject: str) -> None:
    page = Page("OOM report", subject, "now", subject, (), (Fact("host", subject),))
    write_page(page, str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_bytes().decode("ascii")
    assert subject.encode("ascii", "xmlcharrefreplace").decode() in text


def test_it_is_written_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    write_page(EMPTY, "-")
    assert capsys.readouterr().out == render_document(EMPTY)


def test_hours_have_their_numbers_and_shades() -> None:
    counts = ((0,) * 9 + (1, 4, 8) + (0,) * 12,)
    grid = Section("hours", "Kills by hour (UTC)", (HourGrid(("2026-11-28",), counts),))
    text = render_document(Page("OOM report", "", "", "", (grid,)))
    assert re.findall(r'<td class="heat(\d)">(\d+)</td>', text) == [
        ("1", "1"),
        ("2", "4"),
        ("4", "8"),
    ]
    assert text.count('<td class="none">') == 21
    assert '<td class="right">13</td>' in text
