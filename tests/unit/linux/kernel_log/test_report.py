"""Reports that are truncated, mixed, late or long, and their text."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from otel_oom.linux.kernel_log.line_types import KilledProcess, Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import (
    DuplicateKillLine,
    LogEvent,
    LoggedKill,
    LoggedNoVictim,
)
from otel_oom.linux.kernel_log.report_text import MAX_TEXT_CHARS
from tests.testlib.samples.log_lines import (
    GROUP_KILL,
    KILLED,
    NO_KILLABLE_PROCESS,
    REPORT,
    killed_line,
    make_lines,
    parse_kills,
    parse_lines,
)

SECOND = 10**9

OLD = """\
sh invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0
Pid: 100, comm: sh Not tainted 3.2.0 #1
Task in /a killed as a result of limit of /a
memory: usage 100kB, limit 100kB, failcnt 1
[ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name
[  100]     0   100     1000      100   0       0             0 sh
Memory cgroup out of memory: Kill process 100 (sh) score 900 or sacrifice child
Killed process 100 (sh) total-vm:4000kB, anon-rss:400kB, file-rss:0kB
""".splitlines()
ANNOUNCEMENT, OLD_KILLED = OLD[-2:]
OTHER = [re.sub(r"\b100\b", "200", line).replace("/a", "/b") for line in OLD]


def finished_events(texts: list[str]) -> list[LogEvent]:
    """Return the events of a log that has ended."""
    parser = KernelLogParser()
    events = [parser.feed(line) for line in make_lines(texts)]
    return [event for event in [*events, *parser.finish()] if event is not None]


def finished_kills(texts: list[str]) -> list[LoggedKill]:
    """Return the kills of a log that has ended."""
    return [event for event in finished_events(texts) if isinstance(event, LoggedKill)]


def test_the_text_is_the_report_and_the_kill() -> None:
    (kill,) = parse_kills(["before", *REPORT, KILLED, "after"])
    assert kill.text == "\n".join([*REPORT, KILLED])
    (old,) = finished_kills(["before", *OLD, "after"])
    assert old.text == "\n".join(OLD)


def test_the_text_of_a_kill_without_a_report_is_its_line() -> None:
    """So is that of a group's member: the first kill has the report."""
    (alone,) = parse_kills([KILLED])
    assert alone.text == KILLED
    (pair,) = finished_kills([ANNOUNCEMENT, OLD_KILLED])
    assert pair.text == f"{ANNOUNCEMENT}\n{OLD_KILLED}"
    first, member = parse_kills([*REPORT, KILLED, GROUP_KILL, killed_line(5400)])
    assert first.text.endswith(KILLED)
    assert member.text == killed_line(5400)


def test_the_text_of_a_search_without_a_victim() -> None:
    (event,) = parse_lines(make_lines([*REPORT[:-1], NO_KILLABLE_PROCESS]))
    assert isinstance(event, LoggedNoVictim)
    assert event.report is not None
    assert event.report.text == "\n".join([*REPORT[:-1], NO_KILLABLE_PROCESS])


def test_a_long_text_has_a_note_of_omitted_lines() -> None:
    rows = [REPORT[-2].replace("5356", str(10_000 + at)) for at in range(2000)]
    (kill,) = parse_kills([*REPORT[:-1], *rows, REPORT[-1], KILLED])
    assert len(kill.text) <= MAX_TEXT_CHARS
    assert kill.text.startswith("\n".join(REPORT[:-1]))
    assert kill.text.endswith(f"{REPORT[-1]}\n{KILLED}")
    kept = [line for line in kill.text.split("\n") if not line.startswith("[…")]
    assert f"[… {len(REPORT) + 2001 - len(kept)} lines are left out …]" in kill.text
    assert kill.report is not None
    assert kill.report.task_table is not None
    assert kill.report.task_table.count == 2001


def test_a_name_adds_no_line_to_the_text() -> None:
    report = [line.replace("tail", "a\n\x1bb") for line in REPORT]
    given = [
        replace(line, exact=True) for line in make_lines([*report, killed_line(5356, "a\n\x1bb")])
    ]
    (kill,) = parse_lines(given)
    assert isinstance(kill, LoggedKill)
    assert kill.parsed.comm == "a\n\x1bb"
    assert kill.text.count("\n") == len(REPORT)
    assert "a\\x0a\\x1bb" in kill.text


def test_an_announcement_and_its_kill_are_one() -> None:
    """The kill may be that of a child."""
    (kill,) = finished_kills(OLD)
    assert isinstance(kill.parsed, KilledProcess)
    assert (kill.parsed.message, kill.parsed.pid) == ("Memory cgroup out of memory", 100)
    (child,) = finished_kills([*OLD[:-1], OLD_KILLED.replace("100 (sh)", "101 (ls)")])
    assert (child.parsed.pid, child.parsed.comm) == (101, "ls")
    assert child.report is not None
    assert child.report.oom_memcg == "/a"


@pytest.mark.parametrize("following", [[], ["other"] * 300, OTHER])
def test_an_announcement_without_its_kill_is_a_kill(following: list[str]) -> None:
    """Once, with its report, whatever follows."""
    kills = finished_kills([*OLD[:-1], *following])
    lost = [kill for kill in kills if kill.parsed.pid == 100]
    assert len(lost) == 1
    assert isinstance(lost[0].parsed, KilledProcess)
    assert lost[0].parsed.memory is None
    assert lost[0].report is not None
    assert lost[0].report.oom_memcg == "/a"
    assert [kill.parsed.pid for kill in kills if kill.parsed.pid != 100] == [200] * (
        following is OTHER
    )


@pytest.mark.parametrize("passed_ns", [1, 11 * SECOND])
def test_a_lost_kill_is_an_event_after_a_while(passed_ns: int) -> None:
    """After some seconds, or some hundred lines: a followed log has no end."""
    parser = KernelLogParser()
    for line in make_lines(OLD[:-1]):
        assert not isinstance(parser.feed(line), LoggedKill)
    count = 300 if passed_ns == 1 else 1
    events = [parser.feed(Line("other", passed_ns, at)) for at in range(count)]
    assert [type(event) for event in events if event] == [LoggedKill]


def test_an_announcement_before_lost_lines_is_a_kill() -> None:
    parser = KernelLogParser()
    for line in make_lines(OLD[:-1]):
        parser.feed(line)
    kill = parser.feed(Line("something else", SECOND, 99, after_loss=True))
    assert isinstance(kill, LoggedKill)
    assert kill.parsed.pid == 100
    assert parser.finish() == []


def test_a_storm_of_announcements_is_as_many_kills() -> None:
    """Reports are omitted then, and pairs may interleave."""
    pairs = [
        (line.replace("100 (sh)", f"{pid} (sh)"), kill.replace("100 (sh)", f"{pid} (sh)"))
        for pid, line, kill in ((pid, ANNOUNCEMENT, OLD_KILLED) for pid in range(1000, 1300))
    ]
    apart = [text for pair in pairs for text in pair]
    assert [kill.parsed.pid for kill in finished_kills(apart)] == list(range(1000, 1300))
    woven = [
        text
        for one, other in zip(pairs[::2], pairs[1::2], strict=True)
        for text in (one[0], other[0], one[1], other[1])
    ]
    assert [kill.parsed.pid for kill in finished_kills(woven)] == list(range(1000, 1300))


def test_logs_of_two_hosts_are_separated() -> None:
    given = [
        replace(line, stream=stream)
        for one, other in zip(make_lines(OLD), make_lines(OTHER), strict=True)
        for line, stream in ((one, "a"), (other, "b"))
    ]
    one, two = (event for event in parse_lines(given) if isinstance(event, LoggedKill))
    for kill, pid, path, texts in ((one, 100, "/a", OLD), (two, 200, "/b", OTHER)):
        assert kill.report is not None
        assert (kill.parsed.pid, kill.report.trigger_tid, kill.report.oom_memcg) == (pid, pid, path)
        assert kill.text == "\n".join(texts)


def _renamed(texts: list[str], pid: int, path: str) -> list[str]:
    return [
        re.sub(r"/(a|outer)\b", path, re.sub(r"\b(100|5356)\b", str(pid), text)) for text in texts
    ]


@pytest.mark.parametrize(
    ("texts", "shift"),
    [(texts, shift) for texts in (OLD, [*REPORT, KILLED]) for shift in range(1, len(texts))],
)
def test_mixed_reports_share_nothing(texts: list[str], shift: int) -> None:
    """If nothing separates their lines, both kills are events, and neither has the other's values.

    The second report begins ``shift`` lines after the first."""
    places = [(2 * at, line) for at, line in enumerate(_renamed(texts, 300, "/one"))]
    places += [(2 * (at + shift) + 1, line) for at, line in enumerate(_renamed(texts, 400, "/two"))]
    kills = finished_kills([line for _, line in sorted(places)])
    assert sorted(kill.parsed.pid or 0 for kill in kills) == [300, 400]
    for kill in kills:
        own = {300: "/one", 400: "/two"}[kill.parsed.pid or 0]
        report = kill.report
        if report is None:
            continue
        assert report.oom_memcg in {None, own}
        assert report.summary is None or report.summary.oom_memcg == own
        assert report.trigger_tid in {None, kill.parsed.pid}
        assert report.task_table is None or kill.parsed.pid in report.task_table.total_vm


@pytest.mark.parametrize("cut", range(1, len(REPORT)))
def test_a_report_after_a_truncated_one_is_whole(cut: int) -> None:
    (kill,) = parse_kills([*REPORT[:cut], *REPORT, KILLED])
    assert kill.report is not None
    assert kill.report.header is not None
    assert kill.text == "\n".join([*REPORT, KILLED])
    assert kill.report.memcg_usage is not None
    assert len(kill.report.stack) == 5


@pytest.mark.parametrize("cut", [1, 5, len(REPORT) - 1])
def test_an_unfinished_report_belongs_to_no_later_kill(cut: int) -> None:
    """Neither a minute later nor 5,000 lines later."""
    given = make_lines(REPORT[:cut])
    (late,) = parse_lines([*given, Line(killed_line(6000), 61 * SECOND, 99)])
    assert isinstance(late, LoggedKill)
    assert late.report is None
    (far,) = parse_kills([*REPORT[:cut], *["other"] * 5000, killed_line(6000)])
    assert far.report is None


def test_an_unfinished_report_is_dropped() -> None:
    parser = KernelLogParser()
    for line in make_lines(REPORT[:5], caller=7):
        parser.feed(line)
    assert parser.in_report
    for line in make_lines(["other"] * 6000, caller=8):
        parser.feed(line)
    assert not parser.in_report


def test_a_mixed_report_without_end_is_bounded() -> None:
    parser = KernelLogParser()
    for line in make_lines([*REPORT[:6], *REPORT[:1], *[REPORT[5]] * 5000]):
        parser.feed(line)
    (thread,) = parser._threads.values()  # noqa: SLF001  what is kept is the promise
    assert len(thread.assembler.frames) + len(thread.assembler._sections) < 200  # noqa: SLF001


def test_a_thread_of_a_dead_process_is_a_duplicate() -> None:
    """The task table maps threads to processes."""
    row = REPORT[-2].replace("5356", "5401", 1).replace("5356", "5400")
    report = [*REPORT[:-1], row, REPORT[-1]]
    events = parse_lines(
        make_lines(
            [*report, KILLED, GROUP_KILL, killed_line(5400), killed_line(5401), killed_line(5402)]
        )
    )
    assert isinstance(events[2], DuplicateKillLine)
    rest = [event for event in events if isinstance(event, LoggedKill)]
    assert [kill.parsed.pid for kill in rest] == [5356, 5400, 5402]


def test_a_process_that_shares_its_memory_is_no_kill() -> None:
    """The kernel does not count it, and prints it between the two lines of the victim."""
    (kill,) = finished_kills([*OLD[:-1], "Kill process 101 (twin) sharing same memory", OLD_KILLED])
    assert kill.parsed.pid == 100
