"""The kernel log by syslog(2), from a log that is written here."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import pytest
from msgspec.structs import replace

from otel_oom.capture.kmsg import report_lookup
from otel_oom.capture.kmsg.report_lookup import OomReportIndex
from otel_oom.capture.kmsg.syslog_reader import NoTimesError, SyslogReader
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LoggedKill
from tests.testlib.samples.events import KILL
from tests.testlib.samples.log_lines import REPORT, killed_line

_KILLED = killed_line(8045, "web")


class WrittenLog:
    """A log of ``capacity`` bytes, read as the kernel lets it be read."""

    def __init__(self, capacity: int = 1 << 20) -> None:
        self.capacity = capacity
        self.records: list[bytes] = []
        self.time_us = 12_345_678
        self.reads: list[int] = []

    def add(self, text: str | bytes, *, level: int = 6, same_time: bool = False) -> None:
        """Print a record: each of its lines has the prefix (record_print_text())."""
        self.time_us += 0 if same_time else 7
        seconds, micros = divmod(self.time_us, 1_000_000)
        prefix = f"<{level}>[{seconds:5d}.{micros:06d}] ".encode()
        raw = text.encode() if isinstance(text, str) else text
        self.records.append(b"".join(prefix + line + b"\n" for line in raw.split(b"\n")))
        while sum(map(len, self.records)) > self.capacity:
            del self.records[0]

    def read_tail(self, max_bytes: int) -> bytes:
        """Return the newest whole records that fit (find_first_fitting_seq())."""
        self.reads.append(max_bytes)
        size, fitting = 0, len(self.records)
        while fitting and size + len(self.records[fitting - 1]) <= max_bytes:
            fitting -= 1
            size += len(self.records[fitting])
        return b"".join(self.records[fitting:])


@pytest.fixture
def log() -> WrittenLog:
    """Return a log with a line."""
    log = WrittenLog()
    log.add("Linux version 6.12")
    return log


@pytest.fixture
def open_reader(log: WrittenLog, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SyslogReader]:
    """Return a function that opens the log."""
    monkeypatch.setattr(f"{SyslogReader.__module__}.log_buffer_bytes", lambda: log.capacity)
    return lambda **options: SyslogReader(read_tail=log.read_tail, **options)


def texts(reader: SyslogReader, count: int = 1 << 16) -> list[str]:
    """Return the texts of the lines since the last call."""
    return [line.text for line in reader.read_lines(count)]


def test_each_line_is_read_once(log: WrittenLog, open_reader: Callable[..., SyslogReader]) -> None:
    """Those before the opening are not; the same text at another time is another line."""
    reader = open_reader()
    assert texts(reader) == []
    for number in range(3):
        log.add("same")
        log.add(f"line {number}")
        assert texts(reader) == ["same", f"line {number}"]
    assert texts(reader) == []
    assert reader.lost == 0


def test_from_start_reads_the_whole_log(
    log: WrittenLog, open_reader: Callable[..., SyslogReader]
) -> None:
    """Each line has the number that another reader finds, and the time of the log."""
    for number in range(5000):
        log.add(f"a line of the kernel with number {number}", same_time=number % 3 == 0)
    reader = open_reader(from_start=True)
    lines = list(reader.read_lines(1 << 16))
    assert [line.text for line in lines[1:]] == [
        f"a line of the kernel with number {number}" for number in range(5000)
    ]
    assert lines[-1].time_ns == log.time_us * 1000
    numbers = [line.sequence for line in lines]
    assert numbers == sorted(set(numbers))
    assert open_reader().sequence == numbers[-1]


@pytest.mark.slow
def test_usual_reading_is_short(log: WrittenLog, open_reader: Callable[..., SyslogReader]) -> None:
    """Only a reader that has been away for long reads a large log as a whole."""
    for number in range(9000):
        log.add(f"a line of the kernel with number {number}")
    reader = open_reader()
    log.reads.clear()
    log.add("new")
    assert texts(reader) == ["new"]
    assert log.reads == [1 << 16]
    for number in range(9000):
        log.add(f"a line of the kernel with number {number}")
    assert len(texts(reader)) == 9000
    assert reader.lost == 0


def test_overwritten_lines_are_a_loss(
    log: WrittenLog, open_reader: Callable[..., SyslogReader]
) -> None:
    """It is counted, and the next line is marked: an unfinished report has no end."""
    log.capacity = 4000
    reader = open_reader()
    for number in range(500):
        log.add(f"line {number}")
    lines = list(reader.read_lines(1 << 16))
    assert [line.after_loss for line in lines[:3]] == [True, False, False]
    assert lines[-1].text == "line 499"
    assert reader.lost == 1
    log.add("after")
    assert texts(reader) == ["after"]
    assert reader.lost == 1


def test_lost_lines_are_logged_once(
    log: WrittenLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill whose report is among them is recorded without it."""
    log.capacity = 4000
    module = SyslogReader.__module__
    monkeypatch.setattr(f"{module}.log_buffer_bytes", lambda: log.capacity)
    opened = partial(SyslogReader, read_tail=log.read_tail)
    monkeypatch.setattr(report_lookup, "open_kernel_log", lambda _, **kw: opened(**kw))
    with OomReportIndex() as index:
        for text in (*REPORT, *(f"line {number}" for number in range(500))):
            log.add(text)
        victim = replace(KILL.victim, tgid=5356, tid=5356)
        annotated = [index.annotate(replace(KILL, victim=victim, original=None)) for _ in "ab"]
    assert [kill.original for kill in annotated] == [None, None]
    assert caplog.text.count("Kernel log: lines were overwritten") == 1


def test_the_rest_is_returned_by_the_next_call(
    log: WrittenLog, open_reader: Callable[..., SyslogReader]
) -> None:
    reader = open_reader()
    for number in range(5):
        log.add(f"line {number}")
    assert texts(reader, 2) == ["line 0", "line 1"]
    for line in reader.read_lines(9):
        # The caller failed with this one.
        assert line.text == "line 2"
        break
    assert reader.has_unread
    assert texts(reader) == ["line 3", "line 4"]
    assert not reader.has_unread


def test_lines_of_user_space_are_skipped(
    log: WrittenLog, open_reader: Callable[..., SyslogReader]
) -> None:
    """The facility in the level is not the kernel's; each line of a record has it."""
    reader = open_reader()
    log.add(f"systemd[1]: x\n{_KILLED}", level=1 << 3 | 3)
    log.add("kernel")
    assert texts(reader) == ["kernel"]


@pytest.mark.parametrize("name", ["a\nb", "a\n,task=x", "\n", "x) total\ny"])
def test_a_name_with_a_newline_stays_one_line(
    name: str, log: WrittenLog, open_reader: Callable[..., SyslogReader]
) -> None:
    """The texts equal those of /dev/kmsg, where a record is one line."""
    reader = open_reader()
    summary = (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        f"oom_memcg=/a,task_memcg=/a,task={name},pid=8045,uid=0"
    )
    header = f"{name} invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
    killed = killed_line(8045, name)
    for text in (header, summary, killed):
        log.add(text, level=3)
    assert texts(reader) == [header, summary, killed]


def test_a_forged_line_is_no_kill(
    log: WrittenLog, open_reader: Callable[..., SyslogReader]
) -> None:
    """A program whose file has a newline in its name can't begin a line in the log of kills."""
    reader = open_reader()
    log.add(f"x[1]: segfault at 0 ip 0 sp 0 error 4 in evil\n{_KILLED}[7ff0+1000]", level=3)
    log.add("init invoked oom-killer: gfp_mask=0x0, order=0, oom_score_adj=0\n", level=3)
    parser = KernelLogParser()
    events = [parser.feed(line) for line in reader.read_lines(99)] + parser.finish()
    assert not [event for event in events if isinstance(event, LoggedKill)]


def test_fast_lines_of_a_report_stay_separate(
    log: WrittenLog, open_reader: Callable[..., SyslogReader]
) -> None:
    """All within one microsecond: the report and its kill equal those of slow ones."""
    reader = open_reader()
    for index, text in enumerate(REPORT):
        log.add(text, same_time=index > 1)
    log.add(killed_line(8045, "tail"), level=3)
    parser = KernelLogParser()
    lines = list(reader.read_lines(999))
    assert [line.text for line in lines[:-1]] == list(REPORT)
    kills = [event for line in lines if isinstance(event := parser.feed(line), LoggedKill)]
    assert len(kills) == 1
    assert kills[0].report is not None
    assert kills[0].report.summary is not None


def test_a_log_without_times_is_refused(open_reader: Callable[..., SyslogReader]) -> None:
    with pytest.raises(NoTimesError) as raised:
        SyslogReader(read_tail=lambda _: b"<6>Linux version 6.12\n")
    assert raised.value.errno == errno.ENODATA
    assert open_reader()


def test_an_empty_log_may_get_lines(open_reader: Callable[..., SyslogReader]) -> None:
    """As after `dmesg --clear`."""
    log = WrittenLog()
    reader = SyslogReader(read_tail=log.read_tail)
    assert texts(reader) == []
    log.add("first")
    assert texts(reader) == ["first"]
    assert (reader.lost, open_reader().lost) == (0, 0)
