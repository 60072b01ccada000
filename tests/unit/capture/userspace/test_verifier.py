"""Kills that a message claims, matched to real processes and their ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.capture.userspace.verifier import KillVerifier
from otel_oom.enrich.event import is_death_by
from otel_oom.linux import clock
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.process import ProcessDir
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import UserspaceKill
from otel_oom.model.types import Capture, Memcg, Task, UserspaceOomDaemon
from tests.testlib.require import require
from tests.testlib.wait import wait_until


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that lives until it reads a line."""
    with subprocess.Popen(["head", "-n1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as head:
        yield head
        head.kill()


@contextmanager
def open_verifier(cgroups: CgroupMount | None = None) -> Iterator[KillVerifier]:
    """Open a verifier of this host's processes."""
    processes = ProcessLookup()
    require(processes.usable, "the initial PID namespace")
    with select.epoll() as epoll:
        verifier = KillVerifier(epoll, processes, cgroups=cgroups)
        yield verifier
        verifier.close()


def claim(pid: int | None = None, path: str | None = None, sequence: int = 1) -> UserspaceKill:
    """Return a kill of a process or a cgroup that a message claims now."""
    task = None
    if pid is not None:
        task = Task(pid, start_boottime_ns=ProcessLookup().start_boottime_ns(pid))
    return UserspaceKill(
        boot_id=clock.boot_id(),
        boottime_ns=clock.boottime_ns(),
        time_unix_ns=1,
        trigger=None,
        capture=Capture("journal", "systemd-journald", None, sequence),
        killer=UserspaceOomDaemon("earlyoom", signal="SIGTERM"),
        victim=task,
        memcg=Memcg(None, path) if path else None,
        completed=task is None,
        original="",
    )


def test_each_claim_of_a_process_gets_its_exit(victim: subprocess.Popen[bytes]) -> None:
    """earlyoom follows SIGTERM by SIGKILL, with a message for each."""
    first, second = claim(victim.pid), claim(victim.pid, sequence=2)
    with open_verifier() as verifier:
        assert [verifier.verify(kill).verified for kill in (first, second)] == [False, False]
        assert verifier.poll() == []
        victim.terminate()
        exits = wait_until(verifier.poll, "the exit")
        assert verifier.poll() == []
    assert [exit_.kill_uid for exit_ in exits] == [first.uid, second.uid]
    assert [exit_.exit_code for exit_ in exits] == [signal.SIGTERM] * 2
    assert is_death_by(first, exits[0])


def test_an_end_of_its_own_verifies_nothing(victim: subprocess.Popen[bytes]) -> None:
    """Whoever forges a message can await, or cause, the end of a worker of somebody else."""
    kill = claim(victim.pid)
    with open_verifier() as verifier:
        verifier.verify(kill)
        victim.communicate(b"\n")
        (exit_,) = wait_until(verifier.poll, "the exit")
    if exit_.exit_code is not None:
        assert not is_death_by(kill, exit_)


def test_a_process_that_ends_at_once_is_verified(victim: subprocess.Popen[bytes]) -> None:
    """Between the look at its name and the watch."""
    kill = claim(victim.pid)
    victim.kill()
    victim.wait()
    with open_verifier() as verifier:
        assert verifier.verify(kill).verified


def test_an_unknown_process_is_not_verified() -> None:
    with open_verifier() as verifier:
        gone = replace(claim(), victim=Task(1 << 23), completed=False)
        assert not verifier.verify(gone).verified


def test_memory_is_bounded(victim: subprocess.Popen[bytes]) -> None:
    """Of many forged messages about one process, the last 256 can be verified."""
    kill = claim(victim.pid)
    with open_verifier() as verifier:
        for _ in range(300):
            verifier.verify(kill)
        victim.kill()
        assert len(wait_until(verifier.poll, "the exits")) == 256


def test_a_cgroup_is_verified_once_its_processes_die(
    tmp_path: Path, victim: subprocess.Popen[bytes]
) -> None:
    (folder := tmp_path / "a.slice").mkdir()
    events, procs = folder / "cgroup.events", folder / "cgroup.procs"
    events.write_text("populated 1\nfrozen 0\n", encoding="ascii")
    procs.write_text(f"{victim.pid}\n", encoding="ascii")
    kill = claim(path="/a.slice")
    with open_verifier(CgroupMount(tmp_path, "/", v1=False)) as verifier:
        assert not verifier.verify(kill).verified
        victim.kill()
        assert verifier.verify(kill).verified
        assert not verifier.verify(replace(kill, completed=False)).verified
        procs.write_text(f"{victim.pid}\n" * 65, encoding="ascii")
        assert not verifier.verify(kill).verified
        events.write_text("populated 0\nfrozen 0\n", encoding="ascii")
        assert verifier.verify(kill).verified
        assert verifier.verify(claim(path="/removed")).verified
    with open_verifier() as verifier:
        assert not verifier.verify(kill).verified


def test_a_signalled_process_is_dying(victim: subprocess.Popen[bytes]) -> None:
    """By a pending signal, the exit, or as a zombie; not for a moment between the first two."""
    process = ProcessDir(victim.pid)
    stat = process.read_stat()
    assert stat
    assert not stat.dying
    victim.send_signal(signal.SIGSTOP)
    victim.kill()

    def is_dying() -> bool:
        stat = process.read_stat()
        assert stat
        return stat.dying

    wait_until(is_dying, "a sign of its death")


def test_a_cgroup_without_processes_is_killed_once(tmp_path: Path) -> None:
    """systemd-oomd counts the processes that it killed; a rule acts again on an empty cgroup."""
    (tmp_path / "a").mkdir()
    try:
        os.setxattr(tmp_path / "a", "user.oomd_kill", b"0")
    except OSError as error:
        require(False, f"extended attributes: {error}")  # noqa: FBT003  of another module
    kill = replace(claim(path="/a"), verified=True)
    with open_verifier(CgroupMount(tmp_path, "/", v1=False)) as verifier:
        assert verifier.is_empty_kill(kill)
        for count, empty in ((b"2", False), (b"2", True), (b"3", False)):
            os.setxattr(tmp_path / "a", "user.oomd_kill", count)
            assert verifier.is_empty_kill(kill) is empty
        # A cgroup that is gone, or that has processes left, was not empty.
        assert not verifier.is_empty_kill(replace(kill, memcg=Memcg(None, "/b")))
        assert not verifier.is_empty_kill(replace(kill, verified=False))
