"""The kernel's log as a source, out of a log that is written here, on a host of no processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.capture.kmsg.reader import KmsgReader
from otel_oom.capture.kmsg.report_lookup import OomReportIndex
from otel_oom.capture.kmsg.source import KmsgSource
from otel_oom.capture.source import CaptureError
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.report import LoggedNoVictim, Report
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import CapturedEvent, OomKill
from otel_oom.model.types import Task
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
NOBODY = 4194305
"""Above the largest pid that a kernel gives."""

Script = Callable[[list[bytes | OSError]], None]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """What further reads of the log give, or raise, in place of the kernel."""
    waiting: list[bytes | OSError] = []

    def read(_descriptor: int, _size: int) -> bytes:
        if not waiting:
            raise BlockingIOError
        given = waiting.pop(0)
        if isinstance(given, OSError):
            raise given
        return given

    def write(records: list[bytes | OSError]) -> None:
        waiting.extend(records)

    monkeypatch.setattr(f"{KmsgReader.__module__}.os.read", read)
    return write


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A pipe in the place of the log: what a plain file can't, it can be waited for."""
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    return path


def raw(sequence: int, text: str, level: int = 6) -> bytes:
    """A record as the kernel gives it; its time is its number in milliseconds."""
    escaped = text.replace("\\", r"\x5c").encode()
    return b"%d,%d,%d,-;%s\n" % (level, sequence, sequence * 1000, escaped)


def test_overwritten_lines_are_counted(script: Script, device: Path) -> None:
    """A gap in the records' numbers is what was lost, whoever wrote it; a line behind it tells."""
    script([raw(7, "before")])
    reader = KmsgReader(device)
    script(
        [raw(8, "one"), BrokenPipeError(), raw(20, "user", 14), raw(21, "two"), raw(22, "three")]
    )
    told = [(line.sequence, line.after_loss) for line in reader.read_lines(100)]
    assert told == [(8, False), (21, True), (22, False)]
    assert reader.lost == 11
    reader.close()


def test_a_flood_is_taken_in_parts(script: Script, device: Path) -> None:
    """One call looks at as many records as it may, and the next goes on where that ended."""
    reader = KmsgReader(device)
    script([raw(number, "x") for number in range(10)])
    assert [line.sequence for line in reader.read_lines(4)] == [0, 1, 2, 3]
    assert [line.sequence for line in reader.read_lines(100)] == [4, 5, 6, 7, 8, 9]
    reader.close()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (PermissionError(1, "Operation not permitted"), "dmesg_restrict"),
        (FileNotFoundError(2, "No such file or directory"), "--device=/dev/kmsg"),
        (OSError(22, "Invalid argument"), "CONFIG_PRINTK"),
    ],
)
def test_a_log_that_cannot_be_opened_says_what_to_do(
    error: OSError, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the file and the kernel's reason, and the way out of it."""

    def refuse(*_: object) -> int:
        raise error

    monkeypatch.setattr(f"{KmsgReader.__module__}.os.open", refuse)
    for opened in (KmsgSource(), OomReportIndex()):
        with pytest.raises(CaptureError, match=advice) as raised, opened:
            pass
        assert "/dev/kmsg" in str(raised.value)
        assert str(error.strerror) in str(raised.value)


@pytest.fixture
def events(
    script: Script, device: Path, tmp_path: Path
) -> Callable[[list[str]], list[CapturedEvent]]:
    """The events of a log of these texts, on a host where every process is gone by now."""

    def tell(texts: list[str]) -> list[CapturedEvent]:
        told: list[CapturedEvent] = []
        with KmsgSource(device, tmp_path) as source:
            script([raw(number, text) for number, text in enumerate(texts, 1)])
            source.drain(told.append)
        return told

    return tell


def test_a_victim_that_is_gone_is_told_by_the_log(
    events: Callable[[list[str]], list[CapturedEvent]],
) -> None:
    """Its process's id is the logged one, and so is its trigger's; what nobody told is unknown."""
    (kill,) = events([*REPORT, KILLED])
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


def test_a_trigger_that_is_gone_is_unknown(
    events: Callable[[list[str]], list[CapturedEvent]],
) -> None:
    """A thread that is not the victim's own is of some process: nobody knows of which."""
    report = [line.replace("PID: 5356", f"PID: {NOBODY}") for line in REPORT]
    (kill,) = events([*report, KILLED])
    assert isinstance(kill, OomKill)
    assert kill.trigger is None


def test_who_dies_is_looked_up_before(script: Script, device: Path, tmp_path: Path) -> None:
    """A process that the report named is known by /proc, even if it is gone at its kill."""
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
    records: list[bytes | OSError] = [raw(number, text) for number, text in enumerate(report, 1)]
    told: list[CapturedEvent] = []
    with KmsgSource(device, tmp_path) as source:
        # The fixture stands in for every read: of the log, then of the file of whom it named.
        script([*records[:2], statuses["6000"], *records[2:], statuses["5356"]])
        source.drain(told.append)
        for tid in statuses:
            (tmp_path / tid / "status").unlink()
        script([raw(len(REPORT) + 1, KILLED)])
        source.drain(told.append)
    (kill,) = told
    assert isinstance(kill, OomKill)
    assert (kill.victim.tgid, kill.victim.tid) == (5300, 5356)
    assert (kill.victim.ppid, kill.victim.namespaced_pid) == (12, 7)
    assert kill.trigger is not None
    assert (kill.trigger.tgid, kill.trigger.tid, kill.trigger.ppid) == (5999, 6000, 13)


def test_a_thread_that_is_let_go_of_is_of_no_process(tmp_path: Path) -> None:
    """For an instant /proc shows it still, as one of the process 0 (task_state(), array.c)."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("/proc/self/ns/pid")
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel's log")
    (tmp_path / "5356").mkdir()
    status = tmp_path / "5356" / "status"
    status.write_text("Name:\ttail\nTgid:\t5300\nPPid:\t12\n", encoding="ascii")
    assert ProcessLookup(tmp_path).by_thread(5356, "tail")
    status.write_text("Name:\ttail\nTgid:\t5300\nPPid:\t0\nNStgid:\t0\n", encoding="ascii")
    assert ProcessLookup(tmp_path).by_thread(5356, "tail") == Task(5300, 5356, comm="tail")
    status.write_text("Name:\ttail\nTgid:\t0\nPPid:\t0\n", encoding="ascii")
    assert ProcessLookup(tmp_path).by_thread(5356, "tail") is None


def test_a_group_is_one_incident(events: Callable[[list[str]], list[CapturedEvent]]) -> None:
    """Its members carry the first one's name and decision, and not its cgroup."""
    first, second = events([*REPORT, KILLED, GROUP_KILL, KILLED, killed_line(NOBODY)])
    assert isinstance(first, OomKill)
    assert isinstance(second, OomKill)
    assert (first.incident, second.incident) == (None, first.uid)
    assert second.trigger == first.trigger
    assert second.stack == first.stack
    assert second.decision == first.decision
    assert second.memcg is None
    assert second.trace_id == first.trace_id


def test_the_same_want_is_told_once_a_second(tmp_path: Path) -> None:
    """What repeats within a second is counted, for each cgroup by itself."""
    made = EventBuilder("boot", "kmsg", "/dev/kmsg", ProcessLookup(tmp_path))

    def want(at_ns: int, path: str) -> int | None:
        report = Report(oom_memcg=path)
        event = made.build_no_victim(
            LoggedNoVictim(Line(NO_KILLABLE_PROCESS, 0, 1), report), at_ns, 0
        )
        return None if event is None else event.repeat_count

    assert want(0, "/a") == 0
    assert want(10, "/b") == 0
    assert [want(at, "/a") for at in (20, 30, SECOND - 1)] == [None] * 3
    assert want(SECOND, "/a") == 3
    assert want(3 * SECOND, "/a") == 0
    for number in range(1000):
        want(4 * SECOND, f"/{number}")
    assert len(made._ratelimits) <= 64  # noqa: SLF001  what is kept is the promise


def test_a_failing_handler_keeps_the_event(script: Script, device: Path, tmp_path: Path) -> None:
    """An event whose handler raised comes again, first, and the log behind it is not read."""

    def full(_event: object) -> None:
        raise OSError("no space left on device")

    told: list[CapturedEvent] = []
    with KmsgSource(device, tmp_path) as source:
        script([raw(1, KILLED), raw(2, killed_line(6000))])
        for _ in range(3):
            with pytest.raises(OSError, match="no space"):
                source.drain(full)
        assert source.drain(told.append) == 2
    assert [event.victim.tgid for event in told if isinstance(event, OomKill)] == [5356, 6000]


def victim(tid: int, tgid: int, boottime_ns: int = 0) -> OomKill:
    """A kill as BPF captures it where no hook reports decisions."""
    task = replace(KILL.victim, tgid=tgid, tid=tid)
    return replace(KILL, victim=task, boottime_ns=boottime_ns, decision=None, tasks=None)


def test_a_report_annotates_its_victim_once(script: Script, device: Path) -> None:
    """By the number of a thread or of its process; the kill's own line may be there or not."""
    with OomReportIndex(device) as index:
        script([raw(number, text) for number, text in enumerate(REPORT, 1)])
        assert index.annotate(victim(1, 1)) == victim(1, 1)
        early = index.annotate(victim(5357, 5356)).decision
        assert index.annotate(victim(5357, 5356)).decision is None
        script([raw(100 + number, text) for number, text in enumerate([*REPORT, KILLED])])
        late = index.annotate(victim(5356, 5356)).decision
    assert early is not None
    assert late is not None
    assert (early.source, early.constraint, early.order) == ("/dev/kmsg", "memcg", 0)
    assert (early.message, late.message) == (None, "Memory cgroup out of memory")
    assert early.memcg_usage == late.memcg_usage
    assert early.memcg_usage is not None


def test_a_kill_has_what_the_log_adds(script: Script, device: Path) -> None:
    """The decision, the whole report, and the table of tasks in it."""
    kill = victim(5356, 5356)
    with OomReportIndex(device) as index:
        script([raw(number, text) for number, text in enumerate(REPORT, 1)])
        early = index.annotate(kill)
        assert index.annotate(kill) == kill
        script([raw(100 + number, text) for number, text in enumerate([*REPORT, KILLED])])
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


def test_a_decision_by_a_hook_has_precedence(script: Script, device: Path) -> None:
    """It has more than the log."""
    kill = replace(victim(5356, 5356), decision=KILL.decision)
    with OomReportIndex(device) as index:
        script([raw(number, text) for number, text in enumerate(REPORT, 1)])
        annotated = index.annotate(kill)
    assert annotated.decision == KILL.decision
    assert annotated.original == "\n".join(REPORT)


def test_members_of_a_group_have_the_decision_of_the_first(script: Script, device: Path) -> None:
    """The kernel prints one report for all of them."""
    first = victim(5356, 5356)
    second = replace(victim(6000, 6000, 1), incident=first.uid)
    third = replace(victim(7000, 7000, 2), incident=first.uid)
    with OomReportIndex(device) as index:
        script([raw(number, text) for number, text in enumerate(REPORT, 1)])
        annotated = [index.annotate(kill) for kill in (first, second, third)]
    assert annotated[0].decision is not None
    assert {kill.decision for kill in annotated} == {annotated[0].decision}
    assert [kill.original is None for kill in annotated] == [False, True, True]


def test_a_log_that_fails_costs_no_kill(script: Script, device: Path) -> None:
    """The kill stays as it was captured, and the next one is annotated again."""
    kill = victim(5356, 5356)
    with OomReportIndex(device) as index:
        script([OSError(5, "input/output error")])
        assert index.annotate(kill) == kill
        script([raw(number, text) for number, text in enumerate(REPORT, 1)])
        assert index.annotate(kill).decision is not None


def test_an_old_report_is_of_another_process(script: Script, device: Path) -> None:
    """A mark long after it is of a later process with that number."""
    with OomReportIndex(device) as index:
        script([raw(number, text) for number, text in enumerate(REPORT, 1)])
        # The line is dated as of now, since it has just been read.
        later = victim(5356, 5356, 2**62)
        assert index.annotate(later) == later
