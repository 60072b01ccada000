"""Which lines of a kernel log belong to one event."""

from __future__ import annotations

import re

import pytest

from otel_oom.linux.kernel_log.line_types import ExitingVictim, KilledProcess, Line, OomKillSummary
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import (
    LoggedKill,
    LoggedNoVictim,
    LoggedReaping,
    Report,
    build_oom_control,
)
from otel_oom.model.types import Memcg, MemcgUsage, Memory
from tests.testlib.samples.log_lines import (
    EXITING,
    GROUP_KILL,
    HOST_KILL_SUMMARY,
    KILLED,
    NO_KILLABLE_PROCESS,
    REAPED,
    REPORT,
    killed_line,
    make_lines,
    parse_kills,
    parse_lines,
)

KB = 1024


def test_a_whole_report_is_one_kill() -> None:
    """Sizes are in bytes; trigger, limits, stack and cgroups are those of the report."""
    (kill,) = parse_kills([*REPORT, KILLED])
    assert kill.parsed == KilledProcess(
        message="Memory cgroup out of memory",
        pid=5356,
        comm="tail",
        memory=Memory(18804 * KB, 16000 * KB, 1532 * KB, 4 * KB, swap=None, page_tables=76 * KB),
        uid=0,
        score_adj=-3,
    )
    report = kill.report
    assert report is not None
    assert report.header is not None
    assert (report.trigger_tid, report.header.comm, report.header.score_adj) == (5356, "tail", 7)
    assert report.stack == (
        "oom_kill_process.cold+0x8",
        "out_of_memory+0x214",
        "mem_cgroup_out_of_memory+0xc0",
        "asm_exc_page_fault+0x22",
        "vfs_read+0xbb [some_mod]",
    )
    assert report.summary == OomKillSummary("memcg", "/outer", "/outer/inner", "tail", 5356, 0)
    weighed = build_oom_control(report, kill.parsed.message, "/dev/kmsg")
    assert weighed.memcg_usage == MemcgUsage(16384 * KB, 16168 * KB, None, 16170 * KB)
    assert weighed.memcg == Memcg(None, "/outer")
    assert (weighed.constraint, weighed.order) == ("memcg", 0)
    assert (weighed.gfp_mask, weighed.gfp_flags) == (0xCC0, "GFP_KERNEL")
    assert (weighed.message, weighed.points, weighed.total_memory) == (
        kill.parsed.message,
        None,
        None,
    )


def test_a_report_is_an_event_before_the_kill() -> None:
    """Once it names the allocating task, and once it names the victim."""
    parser = KernelLogParser()
    reports = [event for line in make_lines(REPORT) if (event := parser.feed(line))]
    begun, report = reports
    assert isinstance(begun, Report)
    assert (begun.trigger_tid, begun.summary) == (5356, None)
    assert isinstance(report, Report)
    assert report.summary is not None
    assert report.memcg_usage is not None


def test_a_kill_of_the_whole_host() -> None:
    """A report of 5.10: no cgroup's limits, a request by sysrq, a stack without tags."""
    (kill,) = parse_kills(
        [
            "kworker/0:1 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=-1, oom_score_adj=0",
            "CPU: 0 PID: 77 Comm: kworker/0:1 Not tainted 5.10.0-32-amd64 #1 Debian 5.10.223-1",
            "Hardware name: QEMU Standard PC",
            "Workqueue: events moom_callback",
            "Call Trace:",
            " dump_stack+0x6b/0x83",
            " dump_header+0x4a/0x1f0",
            " oom_kill_process.cold+0xb/0x10",
            " out_of_memory+0xa5/0x250",
            " moom_callback+0x76/0xa0",
            "Mem-Info:",
            "active_anon:100 inactive_anon:200",
            HOST_KILL_SUMMARY,
            killed_line(300, "big", 1000).replace("Memory cgroup out", "Out"),
        ]
    )
    assert kill.report is not None
    assert kill.report.trigger_tid == 77
    assert kill.report.stack[-1] == "moom_callback+0x76"
    assert len(kill.report.stack) == 3
    weighed = build_oom_control(kill.report, kill.parsed.message, "x")
    assert (weighed.constraint, weighed.order, weighed.memcg) == ("none", -1, None)
    assert weighed.memcg_usage is None
    assert kill.report.summary is not None
    assert kill.report.summary.task_memcg == "/user.slice"


def test_a_kill_without_a_report_is_an_event() -> None:
    """The kernel omits reports in a storm, and never the kill's own line."""
    (kill,) = parse_kills([KILLED])
    assert kill.report is None
    weighed = build_oom_control(None, kill.parsed.message, "/dev/kmsg")
    assert (weighed.constraint, weighed.order, weighed.memcg_usage) == ("memcg", None, None)
    assert build_oom_control(None, "Out of memory", "/dev/kmsg").constraint is None


def test_a_report_belongs_to_one_kill() -> None:
    first, second = parse_kills([*REPORT, KILLED, killed_line(6000, uid=0)])
    assert first.report is not None
    assert second.report is None
    assert second.first_of_group is None


def test_a_kill_of_another_user_does_not_fit_a_report() -> None:
    (kill,) = parse_kills([*REPORT, killed_line(6000, uid=33)])
    assert kill.report is None


def test_a_kill_of_another_thread_of_the_victim_fits_a_report() -> None:
    (kill,) = parse_kills([*REPORT, killed_line(5360, "worker")])
    assert kill.report is not None
    assert kill.report.summary is not None
    assert kill.report.summary.pid == 5356


def test_members_of_a_group_have_its_first_kill() -> None:
    """The chosen process, which the kernel prints again, is one event."""
    killed = parse_kills(
        [*REPORT, KILLED, GROUP_KILL, KILLED, killed_line(5400), killed_line(5401), *REPORT, KILLED]
    )
    assert [kill.parsed.pid for kill in killed] == [5356, 5400, 5401, 5356]
    first, *rest, last = killed
    assert [kill.first_of_group for kill in rest] == [first, first]
    assert [kill.report for kill in rest] == [first.report, first.report]
    assert (first.first_of_group, last.first_of_group) == (None, None)


def test_a_group_without_a_report_is_still_one() -> None:
    first, second = parse_kills([KILLED, GROUP_KILL, killed_line(5400)])
    assert second.first_of_group is first


def test_a_late_kill_is_not_in_the_group() -> None:
    given = make_lines([KILLED, GROUP_KILL, killed_line(5400)])
    late = Line(killed_line(5401), 10**9, 9)
    *_, last = parse_lines([*given, late])
    assert isinstance(last, LoggedKill)
    assert last.first_of_group is None


def test_a_victim_that_was_exiting_is_skipped() -> None:
    (kill,) = parse_kills([*REPORT, EXITING])
    assert kill.parsed == ExitingVictim("Memory cgroup out of memory", 5356, "tail")
    assert kill.report is not None


def test_a_search_without_a_victim() -> None:
    """Its report has a cgroup and limits, but no summary."""
    (event,) = parse_lines(make_lines([*REPORT[:-1], NO_KILLABLE_PROCESS]))
    assert isinstance(event, LoggedNoVictim)
    weighed = build_oom_control(event.report, None, "x")
    assert (weighed.constraint, weighed.memcg) == ("memcg", Memcg(None, "/outer"))
    assert event.report is not None
    assert event.report.stack[0] == "oom_kill_process.cold+0x8"


def test_the_reaper_reports_the_remaining_memory() -> None:
    (event, kill) = parse_lines(make_lines([*REPORT[:4], REAPED, *REPORT[4:], KILLED]))
    assert isinstance(event, LoggedReaping)
    assert (event.parsed.pid, event.parsed.resident) == (5356, 28 * KB)
    assert isinstance(kill, LoggedKill)
    assert kill.report is not None


def test_reports_of_two_threads_are_separated() -> None:
    other = [line.replace("5356", "6000").replace("order=0", "order=3") for line in REPORT]
    woven = [
        line
        for pair in zip(
            make_lines([*REPORT, KILLED], 5356),
            make_lines([*other, killed_line(6000)], 6000),
            strict=True,
        )
        for line in pair
    ]
    one, two = (event for event in parse_lines(woven) if isinstance(event, LoggedKill))
    for kill, pid, order in ((one, 5356, 0), (two, 6000, 3)):
        assert kill.parsed.pid == pid
        assert kill.report is not None
        assert kill.report.header is not None
        assert (kill.report.trigger_tid, kill.report.header.order) == (pid, order)
        assert len(kill.report.stack) == 5


def test_nothing_is_joined_across_lost_lines() -> None:
    given = make_lines(REPORT)
    (kill,) = parse_lines([*given, Line(KILLED, 10**6, 99, after_loss=True)])
    assert isinstance(kill, LoggedKill)
    assert kill.report is None


def test_a_line_in_pieces_is_joined() -> None:
    """A long path makes the kernel print a line in several records."""
    head, tail = REPORT[-1].split("/outer/inner")
    given = make_lines(REPORT[:-1])
    pieces = [
        Line(head, 1, 1),
        *(Line(text, 1, 2, continues=True) for text in ("/outer/inner", tail)),
    ]
    (kill,) = parse_lines([*given, *pieces, Line(KILLED, 2, 3)])
    assert isinstance(kill, LoggedKill)
    assert kill.report is not None
    assert kill.report.summary == OomKillSummary("memcg", "/outer", "/outer/inner", "tail", 5356, 0)


def finished(texts: list[str]) -> list[LoggedKill]:
    """Return the kills of a log that has ended."""
    parser = KernelLogParser()
    events = [parser.feed(line) for line in make_lines(texts)]
    return [each for each in (*events, *parser.finish()) if isinstance(each, LoggedKill)]


OTHER_SUMMARY = REPORT[-1].replace("pid=5356,uid=0", "pid=6000,uid=7")


def test_a_choice_whose_kill_is_lost_is_a_kill() -> None:
    first, second = finished([*REPORT, OTHER_SUMMARY, killed_line(6000, uid=7)])
    assert sorted([first.parsed.pid or 0, second.parsed.pid or 0]) == [5356, 6000]
    lost = first if first.parsed.pid == 5356 else second
    assert lost.parsed == KilledProcess(None, 5356, "tail", uid=0)
    assert lost.report is not None
    assert len(lost.report.stack) == 5


def test_a_choice_before_that_of_another_report_is_one_kill() -> None:
    """Logs of two hosts in one, without their names."""
    kills = finished([*REPORT, OTHER_SUMMARY, KILLED, killed_line(6000, uid=7)])
    assert [kill.parsed.pid for kill in kills] == [5356, 6000]
    assert all(isinstance(kill.parsed, KilledProcess) and kill.parsed.memory for kill in kills)
    assert [kill.report and kill.report.chosen and kill.report.chosen.pid for kill in kills] == [
        *(5356, 6000),
    ]


def test_a_choice_is_a_kill_after_some_lines() -> None:
    """A followed log has no end."""
    parser = KernelLogParser()
    given = make_lines([*REPORT, *(f"other {index}" for index in range(10_000))])
    (kill,) = [event for line in given if isinstance(event := parser.feed(line), LoggedKill)]
    assert kill.parsed.pid == 5356
    assert parser.finish() == []


def test_a_victim_that_was_exiting_is_no_kill_by_its_choice() -> None:
    (kill,) = finished([*REPORT, EXITING])
    assert isinstance(kill.parsed, ExitingVictim)


@pytest.mark.parametrize("lost", [2, 10, 16, 20])
def test_a_report_without_its_head_has_what_is_left(lost: int) -> None:
    (kill,) = finished([*REPORT[lost:], KILLED])
    assert kill.report is not None
    assert kill.report.header is None
    assert kill.report.trigger_tid is None
    assert kill.report.task_table is not None
    assert kill.report.task_table.count == 1
    assert (kill.report.memcg_usage is not None) == (lost < 17)


def test_a_warning_amid_a_report_without_its_head_is_not_its_task() -> None:
    warning = ["CPU: 3 PID: 9 Comm: sh Not tainted 6.1 #1", "Call Trace:", " foo+0x1/0x2"]
    index = REPORT.index("Tasks state (memory values in pages):")
    (kill,) = finished([*REPORT[15:index], *warning, *REPORT[index:], KILLED])
    assert kill.report is not None
    assert (kill.report.trigger_tid, kill.report.stack) == (None, ())


def test_a_choice_in_pieces_between_other_lines_is_joined() -> None:
    pieces = re.split("(?=,cpuset=|,mems_allowed=|,oom_memcg=|,task=)", REPORT[-1])
    assert len(pieces) == 5
    given = [
        Line(text, 0, index, continues=text.startswith(","))
        for index, text in enumerate(
            each for piece in pieces for each in (piece, "drv0: retry", "drv1: retry")
        )
    ]
    (kill,) = parse_lines([*make_lines(REPORT[:-1]), *given, Line(KILLED, 1, 99)])
    assert isinstance(kill, LoggedKill)
    assert kill.report is not None
    assert kill.report.summary == OomKillSummary("memcg", "/outer", "/outer/inner", "tail", 5356, 0)
    assert kill.report.text is not None
    assert "drv0: retry\ndrv1: retry\n,cpuset=/" in kill.report.text


def test_lines_that_come_twice_are_one_report() -> None:
    given = [line for line in make_lines([*REPORT, KILLED]) for _ in range(2)]
    (kill,) = parse_lines(given)
    (plain,) = parse_lines(make_lines([*REPORT, KILLED]))
    assert isinstance(kill, LoggedKill)
    assert isinstance(plain, LoggedKill)
    assert (kill.report, kill.text) == (plain.report, plain.text)
