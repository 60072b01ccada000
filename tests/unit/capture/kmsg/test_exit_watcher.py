"""Exits of victims by pidfd, on the running kernel."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.capture.kmsg.exit_watcher import MAX_VICTIMS, ExitWatcher
from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import VictimExit


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until it is killed."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def kill_and_watch(sleeper: subprocess.Popen[bytes], *, reaped: bool) -> tuple[VictimExit, int]:
    """Kill a process; return its captured exit and the CLOCK_BOOTTIME of the kill."""
    started = ProcessLookup().start_boottime_ns(sleeper.pid)
    assert started is not None
    found: list[VictimExit] = []
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
        found += exits.poll()
        found += exits.poll()
        # Exited victims leave the epoll.
        assert epoll.poll(0.05) == []
    (exit_,) = found
    assert (exit_.tgid, exit_.start_boottime_ns) == (sleeper.pid, started)
    return exit_, killed


def test_exit_has_time_and_code_before_the_parent_waits(sleeper: subprocess.Popen[bytes]) -> None:
    exit_, killed = kill_and_watch(sleeper, reaped=False)
    assert exit_.exit_code == signal.SIGKILL
    assert killed < exit_.boottime_ns < boottime_ns()


def test_exit_code_is_unknown_before_6_15_once_the_parent_has_waited(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> int:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    exit_, killed = kill_and_watch(sleeper, reaped=True)
    assert exit_.exit_code in {None, signal.SIGKILL}
    monkeypatch.setattr("otel_oom.linux.pidfd.fcntl.ioctl", unknown)
    with subprocess.Popen(["sleep", "60"]) as other:
        exit_, killed = kill_and_watch(other, reaped=True)
    assert exit_.exit_code is None
    assert killed < exit_.boottime_ns < boottime_ns()


def test_later_process_with_the_same_pid_is_not_watched(
    sleeper: subprocess.Popen[bytes],
) -> None:
    with select.epoll() as epoll:
        exits = ExitWatcher(epoll, ProcessLookup())
        exits.add(sleeper.pid, 1)
        sleeper.kill()
        sleeper.wait(10)
        assert epoll.poll(0.05) == []


def count_descriptors() -> int:
    """Return the number of this process's open count_descriptors."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_number_of_watched_victims_is_limited() -> None:
    """Each has a descriptor; the oldest is dropped."""
    before = count_descriptors()
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(MAX_VICTIMS + 6)]
    try:
        with select.epoll() as epoll:
            exits = ExitWatcher(epoll, ProcessLookup())
            for process in sleepers:
                started = ProcessLookup().start_boottime_ns(process.pid)
                assert started is not None
                exits.add(process.pid, started)
            open_now = count_descriptors() - before
            exits.close()
        assert open_now <= MAX_VICTIMS + 1
        assert count_descriptors() == before
    finally:
        for process in sleepers:
            process.kill()
            process.wait(10)
