"""HTML pages in a real browser, with hostile texts and with none."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.commands.elements import Page
from otel_oom.commands.history.event_row import event_cells
from otel_oom.commands.history.page import describe_event
from otel_oom.commands.history.report.page import describe_report
from otel_oom.commands.history.report.summary import HOUR_S, Summary
from otel_oom.commands.html.document import render_document
from otel_oom.commands.html.output import write_page
from otel_oom.enrich.event import enrich_dropped_events, enrich_no_victim, enrich_panic
from otel_oom.model.units import DAY_S, NS_PER_S
from otel_oom.model.usage import UsageHistory
from otel_oom.otlp.encode import encode_log
from tests.testlib.browser.chromium import Tab
from tests.testlib.browser.look import WIDE, check_page, measure
from tests.testlib.browser.plugin import CheckedPage
from tests.testlib.samples import history
from tests.testlib.samples.events import (
    DROPPED,
    HOST,
    KILL,
    NO_VICTIM,
    PANIC,
    sample_enriched_kill,
)
from tests.testlib.samples.hostile_event import PWNED, hostile_entry
from tests.testlib.samples.usage import enriched_kill, leak, plateau, sample_series


def write(folder: Path, page: Page) -> Path:
    """Write the page to a file."""
    path = folder / "page.html"
    write_page(page, str(path))
    return path


def test_a_kill(look_at: CheckedPage, tmp_path: Path) -> None:
    """Sections are in the order of the terminal, below the advice."""
    entry = history.entry(sample_enriched_kill(original="line\n" * 100))
    page = describe_event(entry, [entry, entry])
    headings = look_at(write(tmp_path, page), None)["headings"]
    titles = [section.title for section in page.sections if section.name != "advice"]
    assert headings == [page.subject, "Advice", *titles]


def test_the_curve_of_a_leak(browser: Tab, look_at: CheckedPage, tmp_path: Path) -> None:
    """It ends at the limit, in the colours of the page, light and dark."""
    history_of_usage = UsageHistory(limit=sample_series(leak), victim=sample_series(plateau))
    entry = history.entry(enriched_kill(history_of_usage))
    path = write(tmp_path, describe_event(entry, [entry]))
    assert "Before the kill" in look_at(path, None)["headings"]
    assert browser.run("document.querySelectorAll('svg[role=img][aria-label]').length") == 2
    curve = "document.querySelector('polygon + polyline')"
    assert browser.run(f"{curve}.points[0].y") == 100
    assert browser.run(f"{curve}.points[{curve}.points.length - 1].y") == 0
    strokes = set()
    for dark in (False, True):
        browser.show_as(WIDE, dark=dark)
        assert browser.run(f"{curve}.getBoundingClientRect().width") > WIDE / 2
        strokes.add(browser.run(f"getComputedStyle({curve}).stroke"))
    assert len(strokes) == 2


def test_events_without_a_victim(look_at: CheckedPage, tmp_path: Path) -> None:
    """Their title is the heading, and there is no section of a victim."""
    for record in (
        enrich_no_victim(NO_VICTIM, 0, HOST),
        enrich_panic(PANIC, 0, HOST),
        enrich_dropped_events(DROPPED, 0, HOST, None),
    ):
        entry = history.log_entry(encode_log(record))
        page = describe_event(entry, [entry])
        headings = look_at(write(tmp_path, page), None)["headings"]
        assert headings[0] == page.title
        assert "Victim" not in headings


def test_a_report_of_a_month(look_at: CheckedPage, tmp_path: Path) -> None:
    """A grid of 31 days, and kills of services with long names."""
    summary = Summary(KILL.time_unix_ns, KILL.time_unix_ns + 31 * DAY_S * NS_PER_S)
    rows = []
    for number in range(100):
        time_ns = KILL.time_unix_ns + number * 7 * HOUR_S * NS_PER_S
        enriched = sample_enriched_kill(time_unix_ns=time_ns, boottime_ns=number + 1)
        names = {"service.name": f"service-{number % 9}-{'x' * 60}", "host.name": "y" * 60}
        entry = history.entry(replace(enriched, resource=names))
        summary.add(entry.event)
        rows.append(event_cells(entry))
    measures = look_at(write(tmp_path, describe_report(summary, rows)), None)
    assert "100 OOM kills of 9 services" in measures["text"]
    assert measures["text"].count("2023-12-0") > 9


def test_hostile_texts_run_nothing_and_add_nothing(
    browser: Tab, look_at: CheckedPage, tmp_path: Path
) -> None:
    """`check_page` knows every element and attribute that a page may have."""
    entry = hostile_entry()
    measures = look_at(write(tmp_path, describe_event(entry, [entry, entry])), None)
    assert browser.run(f"typeof {PWNED}") == "undefined"
    assert browser.run("document.scripts.length") == 0
    assert measures["content"].count("<script>window.pwned = 1</script>") > 20
    assert measures["content"].count("&lt;b&gt;") > 20
    assert "\\u202e\\u2066\\u200f\\x00\\x1b[31m\\n" in measures["content"]
    assert not set("\u202e\u2066\u200f\x00\x1b") & set(measures["content"])


def test_an_injected_element_would_run_and_load_nothing(browser: Tab, tmp_path: Path) -> None:
    """The page's own policy is the second line of defence, behind the escape."""
    page = tmp_path / "page.html"
    entry = history.entry(sample_enriched_kill())
    document = render_document(describe_event(entry, [entry]))
    injected = f"<script>{PWNED} = 1</script><img src=x.png onerror='{PWNED} = 1'>"
    page.write_text(document.replace("<main>", f"<main>{injected}"), encoding="ascii")
    browser.open(page)
    assert browser.run("document.scripts.length") == 1
    assert browser.run(f"typeof {PWNED}") == "undefined"
    (blocked,) = browser.texts_of("Network.loadingFailed")
    assert '"blockedReason": "csp"' in blocked


def test_very_long_words_make_no_page_wider(look_at: CheckedPage, tmp_path: Path) -> None:
    """Paths and names without a blank are broken anywhere."""
    entry = hostile_entry("x" * 500)
    look_at(write(tmp_path, describe_event(entry, [entry, entry])), None)


def test_the_checks_find_faults(browser: Tab, tmp_path: Path) -> None:
    """A page that runs a script, is too wide, and has faint text: each is found."""
    page = tmp_path / "bad.html"
    page.write_text(
        f"<!DOCTYPE html><p style='width: 2000px; color: #bbb'>x</p><script>{PWNED} = 1</script>"
        "<img src=missing.png>",
        encoding="utf-8",
    )
    browser.open(page)
    browser.show_as(360)
    measures = measure(browser)
    assert measures["overflowing"]
    assert measures["faint"]
    assert measures["scrollWidth"] > measures["width"]
    assert browser.run(f"typeof {PWNED}") == "number"
    assert len(browser.requested_urls()) > 1
    with pytest.raises(AssertionError):
        check_page(browser, page)
