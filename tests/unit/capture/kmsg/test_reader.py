"""Records, clocks, threads and ends: what the log's source rests on, against this very kernel."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.capture.kmsg.clock import LogClock
from otel_oom.capture.kmsg.exit_watcher import MAX_VICTIMS, ExitWatcher
from otel_oom.capture.kmsg.reader import parse_record
from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import VictimExit
from tests.testlib.samples.log_lines import KILLED

SECOND = 10**9


def test_a_record_is_taken_apart() -> None:
    """Number, time, thread and text; what follows in lines of their own is left."""
    line = parse_record(b"3,435,6714986382,-,caller=T5356;Some text; more\n SUBSYSTEM=virtio\n")
    assert line == Line("Some text; more", 6714986382000, 435, 5356, exact=True)


def test_a_piece_of_a_line_says_so() -> None:
    """A record with the flag ``c`` continues the one before."""
    line = parse_record(b"4,5743,7587417807,c;,task=tail,pid=8045,uid=0\n")
    assert line is not None
    assert line.continues


def test_what_user_space_wrote_is_none() -> None:
    """Whoever may write to the log can only do so under another facility than the kernel's."""
    text = KILLED.encode()
    assert parse_record(b"3,1,1,-;" + text) is not None
    for facility in range(1, 24):
        assert parse_record(b"%d,1,1,-;%s" % (facility << 3 | 3, text)) is None


def test_escaped_bytes_are_text_again() -> None:
    r"""What the kernel escaped is decoded; what is no UTF-8 then stands as ``\xNN``."""
    line = parse_record(rb"4,1,1,-;x) a\x0a\x1b[31m\xff\x5c \xc3\xa4 \x5cx41")
    assert line is not None
    assert line.text == "x) a\n\x1b[31m\\xff\\ ä \\x41"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\n",
        b";",
        b"6,1;x",
        b"a,b,c,-;x",
        b"-1,1,1,-;x",
        b"6,1,1,-",
        b"9" * 9000 + b",1,1,-;x",
        b"\xff\xfe,1,1,-;x",
    ],
)
def test_what_is_no_record_is_none(broken: bytes) -> None:
    """Bytes of another form are no line, and no error."""
    assert parse_record(broken) is None


def test_a_processor_is_no_thread() -> None:
    """``caller=C0`` is an interrupt's; a caller of an unknown form is none."""
    for caller in (b"caller=C0", b"caller=T", b"caller=Tx", b"else=T1"):
        line = parse_record(b"6,1,1,-," + caller + b";x")
        assert line is not None
        assert line.caller is None


class Clocks:
    """Clocks that stand until they are set."""

    def __init__(self) -> None:
        self.monotonic = 0
        self.boottime = 0

    def log_clock(self) -> LogClock:
        """A mapping by these clocks."""
        return LogClock(lambda: self.monotonic, lambda: self.boottime)


def test_the_soonest_reading_counts() -> None:
    """A line read late does not move the times that one read at once has fixed."""
    clocks = Clocks()
    clock = clocks.log_clock()
    for printed, late in ((100, 3), (101, 0), (102, 9)):
        clocks.monotonic = clocks.boottime = (printed + late) * SECOND
        clock.update(printed * SECOND)
    assert 0 <= clock.to_boottime(102 * SECOND) - 102 * SECOND <= 10 * SECOND >> 12


def test_a_line_read_hours_later_is_told_at_its_time() -> None:
    """It is late by what the clocks may have parted since the kernel started, at the most."""
    clocks = Clocks()
    clock = clocks.log_clock()
    clocks.monotonic = clocks.boottime = 7200 * SECOND
    clock.update(60 * SECOND)
    assert 0 <= clock.to_boottime(60 * SECOND) - 60 * SECOND <= 2.1 * SECOND


def test_clocks_that_part_are_followed() -> None:
    """After a day at 50 millionths either way, a line read at once is told at its time."""
    for parts in (-50, 50):
        clocks = Clocks()
        clock = clocks.log_clock()
        for hours in range(25):
            now = hours * 3600 * SECOND
            clocks.monotonic = clocks.boottime = now
            clock.update(now + now * parts // 10**6)
        assert clock.to_boottime(now + now * parts // 10**6) == now


def test_time_asleep_is_added() -> None:
    """The log stands still in suspend, CLOCK_BOOTTIME does not."""
    clocks = Clocks()
    clock = clocks.log_clock()
    clocks.monotonic, clocks.boottime = 10 * SECOND, 10 * SECOND
    clock.update(10 * SECOND)
    clocks.monotonic, clocks.boottime = 11 * SECOND, 711 * SECOND
    clock.update(11 * SECOND)
    assert clock.to_boottime(11 * SECOND) == 711 * SECOND


def test_a_thread_is_found_by_its_number_and_name() -> None:
    """A thread's process is this one, with the kernel's ids for it; another name is none."""
    comm = b"x) a\n\xff\\"
    ids: list[int] = []
    done = threading.Event()

    def run() -> None:
        Path("/proc/thread-self/comm").write_bytes(comm)
        ids.append(threading.get_native_id())
        done.wait(30)

    thread = threading.Thread(target=run)
    thread.start()
    while not ids:
        time.sleep(0.001)
    processes = ProcessLookup()
    try:
        found = processes.by_thread(ids[0], "x) a\n\\xff\\")
        other = processes.by_thread(ids[0], "python")
    finally:
        done.set()
        thread.join()
    assert other is None
    if not processes.usable:
        assert found is None
        return
    assert found is not None
    assert (found.tgid, found.namespaced_pid, found.ppid) == (
        os.getpid(),
        os.getpid(),
        os.getppid(),
    )
    assert (found.uid, found.gid) == (os.getuid(), os.getgid())
    assert found.pid_ns == Path("/proc/self/ns/pid").stat().st_ino
    assert found.mnt_ns == Path("/proc/self/ns/mnt").stat().st_ino
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    assert found.start_boottime_ns == int(ticks) * SECOND // os.sysconf("SC_CLK_TCK")


def test_another_pid_namespaces_proc_is_not_looked_at(tmp_path: Path) -> None:
    """Where numbers mean other processes than in the log, none is found."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").touch()
    (tmp_path / "1").mkdir()
    (tmp_path / "1/status").write_text("Name:\tinit\nTgid:\t1\n")
    assert ProcessLookup(tmp_path).by_thread(1, "init") is None


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is killed."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def ended(sleeper: subprocess.Popen[bytes], *, reaped: bool) -> tuple[VictimExit, int]:
    """What is told of a process that is killed, and when that was done, on CLOCK_BOOTTIME."""
    started = ProcessLookup().start_boottime_ns(sleeper.pid)
    assert started is not None
    told: list[VictimExit] = []
    with select.epoll() as epoll:
        exits = ExitWatcher(epoll, ProcessLookup())
        exits.add(sleeper.pid, started)
        exits.add(sleeper.pid, started)
        assert exits.poll() == []
        killed = boottime_ns()
        sleeper.send_signal(signal.SIGKILL)
        if reaped:
            sleeper.wait(10)
        assert epoll.poll(10)
        told += exits.poll()
        told += exits.poll()
        # The dead keep nobody awake.
        assert epoll.poll(0.05) == []
    (exit_,) = told
    assert (exit_.tgid, exit_.start_boottime_ns) == (sleeper.pid, started)
    return exit_, killed


def test_an_end_is_told_with_its_time_and_code(sleeper: subprocess.Popen[bytes]) -> None:
    """Once, as soon as the process is dead, whether its parent waits for it or not."""
    exit_, killed = ended(sleeper, reaped=False)
    assert exit_.exit_code == signal.SIGKILL
    assert killed < exit_.boottime_ns < boottime_ns()


def test_an_end_that_nobody_has_the_code_of_is_told_without(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel before 6.15 has none when the parent has waited, and knows no such question."""

    def unknown(*_: object) -> int:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    exit_, killed = ended(sleeper, reaped=True)
    assert exit_.exit_code in {None, signal.SIGKILL}
    monkeypatch.setattr("otel_oom.capture.kmsg.exit_watcher.fcntl.ioctl", unknown)
    with subprocess.Popen(["sleep", "60"]) as other:
        exit_, killed = ended(other, reaped=True)
    assert exit_.exit_code is None
    assert killed < exit_.boottime_ns < boottime_ns()


def test_another_process_of_that_number_is_not_waited_for(
    sleeper: subprocess.Popen[bytes],
) -> None:
    """Its end would be told as that of a victim which is long gone."""
    with select.epoll() as epoll:
        exits = ExitWatcher(epoll, ProcessLookup())
        exits.add(sleeper.pid, 1)
        sleeper.kill()
        sleeper.wait(10)
        assert epoll.poll(0.05) == []


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_more_are_waited_for_than_there_is_room_for() -> None:
    """Each takes a descriptor: of very many victims the oldest are let go."""
    before = descriptors()
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(MAX_VICTIMS + 6)]
    try:
        with select.epoll() as epoll:
            exits = ExitWatcher(epoll, ProcessLookup())
            for process in sleepers:
                started = ProcessLookup().start_boottime_ns(process.pid)
                assert started is not None
                exits.add(process.pid, started)
            held = descriptors() - before
            exits.close()
        assert held <= MAX_VICTIMS + 1
        assert descriptors() == before
    finally:
        for process in sleepers:
            process.kill()
            process.wait(10)
