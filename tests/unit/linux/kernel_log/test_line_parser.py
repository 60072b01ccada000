"""Hostile text in a kernel log: any names, lines that resemble a kill, lines without end."""

from __future__ import annotations

import random
import sys

import pytest
from msgspec.structs import replace

from otel_oom.linux.kernel_log.line_parser import parse_line
from otel_oom.linux.kernel_log.line_types import KilledProcess, Line, OomKillSummary
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LoggedKill
from otel_oom.linux.kernel_log.report_assembler import MAX_FRAMES
from tests.testlib.samples.log_lines import (
    EXITING,
    GROUP_KILL,
    KILLED,
    NO_KILLABLE_PROCESS,
    REAPED,
    REPORT,
    killed_line,
    make_lines,
    parse_kills,
    parse_lines,
)


def test_a_path_that_may_be_truncated_is_unknown() -> None:
    """The kernel prints about a thousand bytes of a line."""
    line = REPORT[-1].replace("/outer/inner", "/outer/" + "i" * 1000)
    summary = parse_line(line)
    assert isinstance(summary, OomKillSummary)
    assert (summary.oom_memcg, summary.task_memcg) == ("/outer", None)


@pytest.mark.parametrize(
    "comm",
    [
        "x) total-vm:1kB",
        "a (b) c",
        "new\nline",
        ",pid=1,uid=0",
        ",task=,pid=1",
        "\\xff\\xfe",
        "",
        " ",
        "Killed process",
    ],
)
def test_any_name_is_parsed_whole(comm: str) -> None:
    report = [line.replace("tail", comm) for line in REPORT]
    (kill,) = parse_kills([*report, killed_line(5356, comm)])
    assert (kill.parsed.pid, kill.parsed.comm) == (5356, comm)
    assert kill.report is not None
    assert kill.report.summary == OomKillSummary("memcg", "/outer", "/outer/inner", comm, 5356, 0)
    assert kill.report.header is not None
    assert kill.report.header.comm == comm


@pytest.mark.parametrize(
    ("oom", "task"),
    [
        ("/a,task_memcg=/b", "/a,task_memcg=/b/c"),
        ("/a", "/a/,task=x,pid=1,uid=0 and more"),
        ("/", "/a"),
        ("/a b", "/a b"),
    ],
)
def test_any_cgroup_path_is_parsed_whole(oom: str, task: str) -> None:
    line = REPORT[-1].replace("=/outer/inner", f"={task}").replace("=/outer", f"={oom}")
    assert parse_line(line) == OomKillSummary("memcg", oom, task, "tail", 5356, 0)


@pytest.mark.parametrize(
    "text",
    [
        f"x: {KILLED}",
        f"{KILLED} IN=eth0 OUT=",
        KILLED.replace("5356", "\uff15\uff13\uff15\uff16"),
        KILLED.replace("5356", "-1"),
        KILLED.replace("5356", "9" * 5000),
        KILLED[:-1].rstrip("-"),
        'audit: comm="Killed process 1 (x)"',
        EXITING + "!",
    ],
)
def test_a_line_that_resembles_a_kill_is_none(text: str) -> None:
    assert parse_lines(make_lines([text])) == []


@pytest.mark.parametrize(
    "more",
    [
        " hugetlb-rss:0kB",
        ", oom_score:1011 swap:-4kB",
        " a:1 b:2 c:3 d:4 e:5 f:6 g:7 h:8",
        " t:0x1f",
        # Blanks at the end are of a terminal, or of a page from which the line was copied.
        " swap:4kB ",
        " ",
        " " * 100,
    ],
)
def test_fields_of_a_vendor_are_skipped(more: str) -> None:
    (plain,), (kill,) = parse_kills([KILLED]), parse_kills([KILLED + more])
    assert kill.parsed == plain.parsed


@pytest.mark.parametrize(
    "more",
    [
        *(" swap", " swap:", " :4kB", "swap:4kB", "  swap:4kB", " 1:2", " a:b:c"),
        *(" a:(b)", " a:" + "1" * 33, " " + "a" * 33 + ":1", " a:1" * 9),
        *(" oom_score_adj:-3\n", "\n swap:4kB", f" by:{KILLED}", f" comm:x) {KILLED[47:]}"),
    ],
)
def test_other_text_after_the_fields_makes_it_no_kill(more: str) -> None:
    assert parse_lines(make_lines([KILLED + more])) == []


@pytest.mark.parametrize(
    "comm", ["x) a:1", ") swap:4kB", "x oom_score:1", ", UID:7", "(x) total-vm:9"]
)
def test_a_name_adds_no_fields(comm: str) -> None:
    (plain,), (kill,) = (
        parse_kills([KILLED]),
        parse_kills([killed_line(5356, comm) + " hugetlb-rss:0kB"]),
    )
    assert isinstance(plain.parsed, KilledProcess)
    assert kill.parsed == replace(plain.parsed, comm=comm)


@pytest.mark.parametrize("more", [" and more", "\n", "x"])
def test_text_after_a_summary_makes_it_none(more: str) -> None:
    assert parse_line(REPORT[-1] + more) is None


def test_memory_is_bounded_for_any_text() -> None:
    """Long lines, endless stacks and pieces, and ever new threads."""
    parser = KernelLogParser()
    for caller in range(500):
        for text in REPORT[:4]:
            parser.feed(Line(text, 0, 0, caller))
        parser.feed(Line("oom-kill:" + "x" * 10_000, 0, 0, caller))
    for _ in range(10_000):
        parser.feed(Line(" frame+0x1/0x2", 0, 0, 499))
    parser.feed(Line("oom-kill:", 0, 0, 499))
    for _ in range(100):
        parser.feed(Line("x" * 1_000_000, 0, 0, 499, continues=True))
    assert parser.feed(Line(KILLED + "x" * 1_000_000, 0, 0)) is None
    endless = REPORT[-1].replace("(null)", "0," * 500_000)
    assert parser.feed(Line(endless, 0, 0)) is None
    threads = parser._threads  # noqa: SLF001  what is kept is the promise
    assert len(threads) <= 16
    assert sum(sys.getsizeof(thread.pieces.text) for thread in threads.values()) < 1 << 18
    assert len(threads[None, 499].assembler.frames) <= MAX_FRAMES


def test_broken_lines_raise_nothing() -> None:
    """Real lines truncated, spliced, repeated and scrambled."""
    chance = random.Random(5)  # noqa: S311  the same lines at each run
    texts = [*REPORT, KILLED, EXITING, GROUP_KILL, NO_KILLABLE_PROCESS, REAPED]
    parser = KernelLogParser()
    kill_count = 0
    for at in range(30_000):
        text = chance.choice(texts)
        change = chance.randrange(6)
        cut = chance.randrange(len(text) + 1)
        if change == 1:
            text = text[:cut]
        elif change == 2:
            text = text[:cut] + chance.choice(texts)[cut:]
        elif change == 3:
            text = text[:cut] + chr(chance.randrange(0x250)) + text[cut + 1 :]
        elif change == 4:
            text = text.replace(str(chance.randrange(10)), "9" * chance.randrange(40))
        event = parser.feed(
            Line(
                text,
                chance.randrange(10**9),
                at,
                chance.choice([None, 1, 2]),
                continues=chance.random() < 0.1,
                after_loss=chance.random() < 0.01,
            )
        )
        kill_count += isinstance(event, LoggedKill)
    assert kill_count > 1000
