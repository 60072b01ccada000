"""Events of the kernel log, from a log that is written here, on a host without processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.capture.kmsg.reader import KmsgReader
from otel_oom.capture.kmsg.report_lookup import OomReportIndex
from otel_oom.capture.kmsg.source import KmsgSource
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LoggedKill, LoggedNoVictim, Report
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import CapturedEvent, OomKill
from otel_oom.model.types import Memcg
from tests.testlib.require import require
from tests.testlib.samples.events import KILL
from tests.testlib.samples.log_lines import (
    GROUP_KILL,
    KILLED,
    NO_KILLABLE_PROCESS,
    REPORT,
    killed_line,
)

SECOND = 10**9
UNUSED_PID = 4194305
"""Above the largest pid that a kernel gives."""

Script = Callable[[list[bytes | OSError]], None]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return a function that sets what further reads of the log return or raise."""
    pending: list[bytes | OSError] = []

    def read(_descriptor: int, _size: int) -> bytes:
        if not pending:
            raise BlockingIOError
        given = pending.pop(0)
        if isinstance(given, OSError):
            raise given
        return given

    def write(records: list[bytes | OSError]) -> None:
        pending.extend(records)

    monkeypatch.setattr(f"{KmsgReader.__module__}.os.read", read)
    return write


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Make a pipe as the log: unlike a plain file, it can be polled."""
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    return path


def raw_record(sequence: int, text: str, level: int = 6) -> bytes:
    """Return a record as the kernel gives it; its time is its number in milliseconds."""
    escaped = text.replace("\\", r"\x5c").encode()
    return b"%d,%d,%d,-;%s\n" % (level, sequence, sequence * 1000, escaped)


def test_overwritten_lines_are_counted(script: Script, device: Path) -> None:
    """By the gap in the numbers of records; the next line is marked."""
    script([raw_record(7, "before")])
    reader = KmsgReader(device)
    script(
        [
            raw_record(8, "one"),
            BrokenPipeError(),
            raw_record(20, "user", 14),
            raw_record(21, "two"),
            raw_record(22, "three"),
        ]
    )
    lines = [(line.sequence, line.after_loss) for line in reader.read_lines(100)]
    assert lines == [(8, False), (21, True), (22, False)]
    assert reader.lost == 11
    reader.close()


def test_one_call_reads_a_limited_number_of_records(script: Script, device: Path) -> None:
    reader = KmsgReader(device)
    script([raw_record(number, "x") for number in range(10)])
    assert [line.sequence for line in reader.read_lines(4)] == [0, 1, 2, 3]
    assert [line.sequence for line in reader.read_lines(100)] == [4, 5, 6, 7, 8, 9]
    reader.close()


@pytest.fixture
def drain_log(
    script: Script, device: Path, tmp_path: Path
) -> Callable[[list[str]], list[CapturedEvent]]:
    """Return a function that drains a log of these texts; all processes are gone."""

    def drain(texts: list[str]) -> list[CapturedEvent]:
        captured: list[CapturedEvent] = []
        with KmsgSource(device, tmp_path) as source:
            script([raw_record(number, text) for number, text in enumerate(texts, 1)])
            source.drain(captured.append)
        return captured

    return drain


def test_victim_without_a_process_has_what_the_log_has(
    drain_log: Callable[[list[str]], list[CapturedEvent]],
) -> None:
    (kill,) = drain_log([*REPORT, KILLED])
    assert isinstance(kill, OomKill)
    victim = kill.victim
    assert (victim.tgid, victim.tid, victim.uid, victim.score_adj) == (5356, 5356, 0, -3)
    assert (victim.ppid, victim.gid, victim.namespaced_pid, victim.start_boottime_ns) == (None,) * 4
    assert kill.trigger is not None
    assert (kill.trigger.tgid, kill.trigger.score_adj) == (5356, 7)
    assert kill.memory is not None
    assert kill.memory.swap is None
    assert kill.memcg is not None
    assert (kill.memcg.id, kill.memcg.path) == (None, "/outer/inner")


def test_trigger_without_a_process_is_unknown(
    drain_log: Callable[[list[str]], list[CapturedEvent]],
) -> None:
    """Unless it is the victim's own thread."""
    report = [line.replace("PID: 5356", f"PID: {UNUSED_PID}") for line in REPORT]
    (kill,) = drain_log([*report, KILLED])
    assert isinstance(kill, OomKill)
    assert kill.trigger is None


def test_process_is_looked_up_when_the_report_names_it(
    script: Script, device: Path, tmp_path: Path
) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("/proc/self/ns/pid")
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel's log")
    statuses = {
        "6000": b"Name:\ttail\nTgid:\t5999\nPPid:\t13\n",
        "5356": b"Name:\ttail\nTgid:\t5300\nPPid:\t12\nNStgid:\t5300\t7\n",
    }
    for tid in statuses:
        (tmp_path / tid).mkdir()
        (tmp_path / tid / "status").touch()
    report = [line.replace("PID: 5356", "PID: 6000") for line in REPORT]
    records: list[bytes | OSError] = [
        raw_record(number, text) for number, text in enumerate(report, 1)
    ]
    captured: list[CapturedEvent] = []
    with KmsgSource(device, tmp_path) as source:
        # The fixture replaces all reads: of the log, then of /proc.
        script([*records[:2], statuses["6000"], *records[2:], statuses["5356"]])
        source.drain(captured.append)
        for tid in statuses:
            (tmp_path / tid / "status").unlink()
        script([raw_record(len(REPORT) + 1, KILLED)])
        source.drain(captured.append)
    (kill,) = captured
    assert isinstance(kill, OomKill)
    assert (kill.victim.tgid, kill.victim.tid) == (5300, 5356)
    assert (kill.victim.ppid, kill.victim.namespaced_pid) == (12, 7)
    assert kill.trigger is not None
    assert (kill.trigger.tgid, kill.trigger.tid, kill.trigger.ppid) == (5999, 6000, 13)


@pytest.mark.parametrize("seconds", [-1, 1])
def test_a_process_that_started_after_the_kill_is_not_the_victim(
    tmp_path: Path, seconds: int
) -> None:
    """Someone can take its number and its name while the line waits to be read."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("/proc/self/ns/pid")
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel's log")
    (tmp_path / "5356").mkdir()
    start = (100 + seconds) * os.sysconf("SC_CLK_TCK")
    for name, text in (
        ("status", "Name:\ttail\nTgid:\t5356\nPPid:\t12\n"),
        ("stat", f"5356 (tail) S {'0 ' * 18}{start} 0\n"),
    ):
        (tmp_path / "5356" / name).write_text(text, encoding="ascii")
    parser = KernelLogParser()
    found = [parser.feed(Line(KILLED, 100 * SECOND, 1)), *parser.finish()]
    (event,) = (each for each in found if isinstance(each, LoggedKill))
    builder = EventBuilder("boot", "kmsg", "/dev/kmsg", ProcessLookup(tmp_path))
    kill = builder.build_kill(event, 100 * SECOND, 0)
    assert kill.victim.tgid == 5356
    assert kill.victim.ppid == (12 if seconds < 0 else None)


def test_group_is_one_incident(drain_log: Callable[[list[str]], list[CapturedEvent]]) -> None:
    """Members have the first one's incident and decision, and a cgroup below the group's."""
    first, second = drain_log([*REPORT, KILLED, GROUP_KILL, KILLED, killed_line(UNUSED_PID)])
    assert isinstance(first, OomKill)
    assert isinstance(second, OomKill)
    assert (first.incident, second.incident) == (None, first.uid)
    assert second.trigger == first.trigger
    assert second.stack == first.stack
    assert second.decision == first.decision
    assert second.memcg == Memcg(None, "/outer/…")
    assert second.trace_id == first.trace_id


def test_no_victim_events_are_rate_limited_by_cgroup(tmp_path: Path) -> None:
    builder = EventBuilder("boot", "kmsg", "/dev/kmsg", ProcessLookup(tmp_path))

    def build(time_ns: int, path: str) -> int | None:
        report = Report(oom_memcg=path)
        event = builder.build_no_victim(
            LoggedNoVictim(Line(NO_KILLABLE_PROCESS, 0, 1), report), time_ns, 0
        )
        return None if event is None else event.repeat_count

    assert build(0, "/a") == 0
    assert build(10, "/b") == 0
    assert [build(at, "/a") for at in (20, 30, SECOND - 1)] == [None] * 3
    assert build(SECOND, "/a") == 3
    assert build(3 * SECOND, "/a") == 0
    for number in range(1000):
        build(4 * SECOND, f"/{number}")
    assert len(builder._ratelimits) <= 64  # noqa: SLF001  the number that is kept is limited


def test_event_of_a_failed_handler_stays_pending(
    script: Script, device: Path, tmp_path: Path
) -> None:
    """The log after it is not read."""

    def full(_event: object) -> None:
        raise OSError("no space left on device")

    captured: list[CapturedEvent] = []
    with KmsgSource(device, tmp_path) as source:
        script([raw_record(1, KILLED), raw_record(2, killed_line(6000))])
        for _ in range(3):
            with pytest.raises(OSError, match="no space"):
                source.drain(full)
        assert source.drain(captured.append) == 2
    assert [event.victim.tgid for event in captured if isinstance(event, OomKill)] == [5356, 6000]


def captured_kill(tid: int, tgid: int, boottime_ns: int = 0) -> OomKill:
    """Return a kill as BPF captures it where no hook reports decisions."""
    task = replace(KILL.victim, tgid=tgid, tid=tid)
    return replace(KILL, victim=task, boottime_ns=boottime_ns, decision=None, tasks=None)


def test_a_report_annotates_its_victim_once(script: Script, device: Path) -> None:
    """By the id of a thread or of its process, with or without the kill's own line."""
    with OomReportIndex(device) as index:
        script([raw_record(number, text) for number, text in enumerate(REPORT, 1)])
        assert index.annotate(captured_kill(1, 1)) == captured_kill(1, 1)
        early = index.annotate(captured_kill(5357, 5356)).decision
        assert index.annotate(captured_kill(5357, 5356)).decision is None
        script([raw_record(100 + number, text) for number, text in enumerate([*REPORT, KILLED])])
        late = index.annotate(captured_kill(5356, 5356)).decision
    assert early is not None
    assert late is not None
    assert (early.source, early.constraint, early.order) == ("/dev/kmsg", "memcg", 0)
    assert (early.message, late.message) == (None, "Memory cgroup out of memory")
    assert early.memcg_usage == late.memcg_usage
    assert early.memcg_usage is not None


def test_annotated_kill_has_decision_report_and_tasks(script: Script, device: Path) -> None:
    kill = captured_kill(5356, 5356)
    with OomReportIndex(device) as index:
        script([raw_record(number, text) for number, text in enumerate(REPORT, 1)])
        early = index.annotate(kill)
        assert index.annotate(kill) == kill
        script([raw_record(100 + number, text) for number, text in enumerate([*REPORT, KILLED])])
        late = index.annotate(kill)
    assert early.original == "\n".join(REPORT)
    assert late.original == "\n".join([*REPORT, KILLED])
    assert early.decision is not None
    assert early.decision.source == "/dev/kmsg"
    for annotated in (early, late):
        assert annotated.tasks is not None
        assert annotated.tasks.memcg == "/outer"
        (task,) = annotated.tasks.largest
        assert (task.tgid, task.comm, task.page_tables) == (5356, "tail", 77824)
        assert task.resident == 4000 * 4096


def test_decision_of_a_hook_has_precedence(script: Script, device: Path) -> None:
    kill = replace(captured_kill(5356, 5356), decision=KILL.decision)
    with OomReportIndex(device) as index:
        script([raw_record(number, text) for number, text in enumerate(REPORT, 1)])
        annotated = index.annotate(kill)
    assert annotated.decision == KILL.decision
    assert annotated.original == "\n".join(REPORT)


def test_members_of_a_group_have_the_decision_of_the_first(script: Script, device: Path) -> None:
    """The kernel prints one report for all of them."""
    first = captured_kill(5356, 5356)
    second = replace(captured_kill(6000, 6000, 1), incident=first.uid)
    third = replace(captured_kill(7000, 7000, 2), incident=first.uid)
    with OomReportIndex(device) as index:
        script([raw_record(number, text) for number, text in enumerate(REPORT, 1)])
        annotated = [index.annotate(kill) for kill in (first, second, third)]
    assert annotated[0].decision is not None
    assert {kill.decision for kill in annotated} == {annotated[0].decision}
    assert [kill.original is None for kill in annotated] == [False, True, True]


def test_failing_log_leaves_the_kill_as_it_was(script: Script, device: Path) -> None:
    kill = captured_kill(5356, 5356)
    with OomReportIndex(device) as index:
        script([OSError(5, "input/output error")])
        assert index.annotate(kill) == kill
        script([raw_record(number, text) for number, text in enumerate(REPORT, 1)])
        assert index.annotate(kill).decision is not None


def test_old_report_is_of_another_process(script: Script, device: Path) -> None:
    with OomReportIndex(device) as index:
        script([raw_record(number, text) for number, text in enumerate(REPORT, 1)])
        # The line is dated as of now, since it has just been read.
        later = captured_kill(5356, 5356, 2**62)
        assert index.annotate(later) == later
