"""`otel-oom show --html` and `otel-oom report` on a stored history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_oom import cli
from otel_oom.commands.history.entry import Entry, UndecodableEventError, entry_from_row
from otel_oom.commands.history.report import run as report_run
from otel_oom.store import HistoryRow, Store
from otel_oom.store.history import PAGE
from tests.testlib.samples.events import KILL, SNAPSHOT, sample_kill

SINCE = ("--since", "2023-11-14T00:00")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history") / "state"
    with Store(folder) as store:
        for number in range(PAGE + 1):
            store.insert(sample_kill(number), SNAPSHOT)
    return folder


def run(state: Path, *words: str) -> int:
    return cli.main([*words, "--state-dir", str(state)])


def test_show_writes_a_page_and_prints_nothing(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run(state, "show", KILL.uid, "--html", str(page)) == 0
    assert capsys.readouterr().out == ""
    assert KILL.uid in page.read_text("ascii")
    assert run(state, "show", KILL.uid, "--html", "-") == 0
    assert capsys.readouterr().out == page.read_text("ascii")


def test_report_counts_all_pages_of_the_history(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state, "report", *SINCE, "--json") == 0
    assert json.loads(capsys.readouterr().out)["kills"] == PAGE + 1
    assert run(state, "report", *SINCE) == 0
    assert f"{PAGE + 1} OOM kills of 1 service" in capsys.readouterr().out


def test_report_writes_a_page(state: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert run(state, "report", *SINCE, "--html", str(page)) == 0
    assert f"{PAGE + 1} OOM kills of 1 service" in page.read_text("ascii")


def test_report_is_of_the_last_week(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kills were stored just now, but are older."""
    assert run(state, "report", "--json") == 0
    assert json.loads(capsys.readouterr().out)["kills"] == 0
    assert run(state, "report") == 0
    assert "No OOM kills." in capsys.readouterr().out


def test_an_event_that_cannot_be_decoded_is_reported(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are counted; the exit code is 1."""

    def decode(row: HistoryRow) -> Entry:
        if row.uid == KILL.uid:
            raise UndecodableEventError("damaged")
        return entry_from_row(row)

    monkeypatch.setattr(report_run, "entry_from_row", decode)
    assert run(state, "report", *SINCE, "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["kills"] == PAGE
    assert captured.err == "otel-oom: damaged\n"


@pytest.mark.parametrize("command", ["show", "report"])
def test_a_file_that_cannot_be_written(
    state: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(state, command, "--html", "/nonexistent/\x1b[31m/page.html") == 1
    error = capsys.readouterr().err
    assert error == (
        "otel-oom: Could not write /nonexistent/\\x1b[31m/page.html: No such file or directory.\n"
    )


@pytest.mark.parametrize("command", ["show", "report"])
def test_html_and_json_exclude_each_other(state: Path, command: str) -> None:
    with pytest.raises(SystemExit) as error:
        run(state, command, "--html", "-", "--json")
    assert error.value.code == 2
