"""Files with signs of a kill and no event: said in one sentence, and by the exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from otel_oom.commands.replay.run import replay
from tests.testlib.samples.daemon_messages import DAEMON_FORMATS, DaemonFormat
from tests.testlib.samples.log_lines import REPORT
from tests.testlib.samples.replay_logs import KILL, dmesg_lines, format_json, journal_entries

_ENTITIES = str.maketrans({"(": "&#40;", "=": "&#61;", "[": "&#91;"})
FOREIGN = [f"<record>{line.translate(_ENTITIES)}</record>" for line in KILL]
"""Lines as no program known here writes them."""


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")


def run_dry(
    folder: Path, capsys: pytest.CaptureFixture[str], *logs: Sequence[str]
) -> tuple[int, list[str]]:
    """Return the exit code of a dry run over files of these lines, and standard error."""
    paths = [folder / f"{number}.log" for number in range(len(logs))]
    for path, lines in zip(paths, logs, strict=True):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    code = replay(paths, folder / "state", dry_run=True, as_json=False)
    return code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    "lines",
    [
        FOREIGN,
        FOREIGN[:1],
        [f"x{REPORT[-1]}y"],
        ["a" * 70_000 + json.dumps(KILL)],
        [json.dumps([{"log": line} for line in KILL] * 100)],
    ],
    ids=["whole", "first line", "choice", "long", "array"],
)
def test_a_sign_without_an_event_is_said(
    lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (sentence, summary) = run_dry(tmp_path, capsys, ["other", *lines])
    assert code == 1
    assert sentence.startswith(f"otel-oom: {tmp_path}/0.log: no event, although a line looks like")
    assert any(sign in sentence for sign in ("oom-killer:", "oom-kill:", "Killed process"))
    assert len(sentence) < 600
    assert summary.startswith("0 kills in ")


def test_the_line_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, (sentence, _) = run_dry(tmp_path, capsys, ["Killed process 1 <\x1b]0;evil\x07\u202e>"])
    assert sentence.isprintable()
    assert "\\x1b" in sentence


@pytest.mark.parametrize(
    "line",
    [
        "Nov 14 21:00:00 db1 sudo: root : COMMAND=/bin/grep 'Killed process' /var/log/syslog",
        "Nov 14 21:00:00 db1 sh[1]: grep 'invoked oom-killer' kern.log",
        "Nov 14 21:00:00 db1 systemd[1]: x.service: Failed with result 'oom-kill'.",
    ],
)
def test_a_search_for_kills_is_no_sign(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (summary,) = run_dry(tmp_path, capsys, [line])
    assert (code, summary.split(" in ")[0]) == (0, "0 kills")


def test_one_silent_file_among_others_does_not_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (sentence, summary) = run_dry(tmp_path, capsys, FOREIGN, dmesg_lines(KILL))
    assert code == 0
    assert "0.log: no event" in sentence
    assert summary.startswith("1 kills in ")


def test_kills_that_other_files_have_are_no_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary counts what was shown."""
    code, (summary,) = run_dry(
        tmp_path, capsys, dmesg_lines(KILL), dmesg_lines(KILL), format_json(journal_entries(KILL))
    )
    assert (code, summary.split(" in ")[0]) == (0, "1 kills")


def test_a_choice_is_no_second_kill_of_a_kill_that_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a bug report: the log, and then the lines of a search in it."""
    search = [line for line in dmesg_lines(KILL) if "oom-kill:" in line]
    code, (summary,) = run_dry(tmp_path, capsys, [*dmesg_lines(KILL), *search])
    assert (code, summary.split(" in ")[0]) == (0, "1 kills")
    code, (summary,) = run_dry(tmp_path, capsys, search)
    assert (code, summary.split(" in ")[0]) == (0, "1 kills")


def test_json_of_an_unknown_shape_is_no_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Loki's API answers: the lines are strings in arrays."""
    pairs = [[str(number), line] for number, line in enumerate(dmesg_lines(KILL))]
    log = json.dumps({"data": {"result": [{"stream": {"host": "db1"}, "values": pairs}]}})
    code, (sentence, summary) = run_dry(tmp_path, capsys, [log])
    assert "0.log: no event, although a line looks like a kill" in sentence
    assert (code, summary.split(" in ")[0]) == (1, "0 kills")


@pytest.mark.parametrize("form", DAEMON_FORMATS, ids=lambda form: form.name)
def test_a_message_of_a_daemon_that_is_not_read_is_said(
    form: DaemonFormat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where another program wraps it. A rule and the oldest names have no sign of their own."""
    lines = [f"<entry>bot[1]: {message}</entry>" for message in form.messages]
    code, messages = run_dry(tmp_path, capsys, lines)
    has_sign = "Rule '" not in form.messages[0]
    assert (code, len(messages)) == ((1, 2) if has_sign else (0, 1))
    assert ("although a line looks like a kill" in messages[0]) is has_sign


def test_what_systemd_says_of_a_unit_is_a_sign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        "Nov 14 21:00:00 db1 systemd[1]: a.scope: systemd-oomd killed 3 process(es) in this unit."
    )
    code, messages = run_dry(tmp_path, capsys, [line])
    assert (code, len(messages)) == (1, 2)


def test_a_dry_run_of_earlyoom_is_no_sign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sending = 'sending SIGTERM to process 4711 uid 1000 "web": badness 900, VmRSS 812 MiB'
    lines = [
        f"Nov 14 21:00:00 db1 earlyoom[7]: {text}"
        for text in (sending, "dryrun, not actually sending any signal")
    ]
    assert run_dry(tmp_path, capsys, lines)[0] == 0
    assert run_dry(tmp_path, capsys, [*lines, *FOREIGN])[0] == 1
