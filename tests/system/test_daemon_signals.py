"""Signals of userspace OOM daemons as the kernel shows them, and the messages they belong to.

The daemons are processes in cgroups that have the names of their units.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from otel_oom.capture.bpf.daemon_signals import DaemonSignalReader
from otel_oom.capture.userspace.daemons import EARLYOOM, SYSTEMD_OOMD, UNITS
from otel_oom.capture.userspace.source import JournalSource
from otel_oom.linux import clock
from otel_oom.linux.procfs import read_mounts
from otel_oom.model.events import CapturedEvent, UserspaceKill, VictimExit
from tests.testlib.kernel.cgroups import remove_cgroup
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.testlib.require import require
from tests.testlib.samples.journal import WRITER, Journal
from tests.testlib.wait import wait_until

_SLICE: Final = f"otel-oom-test-{os.getpid()}.slice"
_MIB: Final = 1 << 20
_MANY: Final = 600
_KILLER: Final = """
import os, sys
with open(sys.argv[1], "w") as procs:
    procs.write("0")
for pid in sys.argv[3:]:
    os.kill(int(pid), int(sys.argv[2]))
"""
_HOLDER: Final = "import time; held = b'x' * (8 << 20); print(flush=True); time.sleep(300)"


@contextmanager
def run_victims(count: int, *prefix: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run processes that hold 8 MiB each."""
    with ExitStack() as stack:
        victims = []
        for _ in range(count):
            command = [*prefix, sys.executable, "-S", "-c", _HOLDER]
            victim = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(victim.kill)
            assert victim.stdout
            victim.stdout.readline()
            victims.append(victim)
        yield victims


def kill_as(
    cgroup: str,
    number: signal.Signals,
    victims: list[subprocess.Popen[bytes]],
    before: Sequence[int] = (),
) -> int:
    """Kill from a process in that cgroup of version 2; return its pid once all are dead."""
    tops = [each.path for each in read_mounts() if each.file_system == "cgroup2"]
    require(tops, "cgroup v2 is not mounted")
    folder = tops[0] / cgroup
    folder.mkdir(parents=True)
    pids = [str(pid) for pid in (*before, *(victim.pid for victim in victims))]
    try:
        command = [sys.executable, "-S", "-c", _KILLER, str(folder / "cgroup.procs"), f"{number:d}"]
        with subprocess.Popen([*command, *pids]) as killer:
            assert killer.wait() == 0
    finally:
        remove_cgroup(tops[0] / Path(cgroup).parts[0])
    assert [victim.wait() for victim in victims] == [-number] * len(victims)
    return killer.pid


def read_resident(pid: int) -> int:
    """Return the memory of a process by its status, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(r"(?m)^VmRSS:\s+(\d+) kB$", status)
    assert match
    return int(match[1]) << 10


@pytest.mark.parametrize("unit", UNITS)
def test_the_signals_of_each_daemon_are_recorded(unit: str) -> None:
    """With the process, its memory and its cgroup, as /proc has them before."""
    with own_memcg(64 * _MIB) as memcg, run_victims(2, *cgroup_prefix(memcg)) as victims:
        expected = {victim.pid: read_resident(victim.pid) for victim in victims}
        reader = DaemonSignalReader()
        try:
            sender = kill_as(f"{_SLICE}/{unit}", signal.SIGTERM, victims)
            signals = list(reader.read_signals())
            assert reader.count_lost() == 0
        finally:
            reader.close()
    for sent in signals:
        assert sent.victim.tgid is not None
        assert sent.memory is not None
        assert sent.memcg is not None
        # The status is read a moment before, and sums up what the CPUs have not added yet.
        assert abs(expected[sent.victim.tgid] - sent.memory.resident) < _MIB
        assert sent.memcg.path == memcg.path
        assert (sent.sender.tgid, sent.number) == (sender, signal.SIGTERM)
    assert [sent.victim.tgid for sent in signals] == list(expected)


@pytest.mark.parametrize(
    ("cgroup", "number"),
    [
        (f"{_SLICE}/sshd.service", signal.SIGKILL),
        # A user's or a container's own unit of that name.
        (f"{_SLICE}/user@1000.service/{EARLYOOM}", signal.SIGKILL),
        (f"{_SLICE}/{EARLYOOM}", signal.SIGUSR1),
    ],
)
def test_other_signals_are_not_recorded(cgroup: str, number: signal.Signals) -> None:
    """Of another unit, of a unit that is not the host's, and one that is no kill."""
    reader = DaemonSignalReader()
    try:
        with run_victims(1) as victims:
            kill_as(cgroup, number, victims)
        assert list(reader.read_signals()) == []
    finally:
        reader.close()


def test_the_kernel_side_knows_each_unit() -> None:
    """The names are twice in the source."""
    source = Path(__file__).parents[2] / "bpf" / "signals.bpf.h"
    names = re.findall(r'IS_UNIT\(name, "(.*?)"\)', source.read_text(encoding="utf-8"))
    assert tuple(names) == UNITS


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return an empty journal of this machine."""
    require(WRITER.exists(), "systemd-journal-remote is missing")
    return Journal(tmp_path, clock.boot_id())


@contextmanager
def open_journal(journal: Journal) -> Iterator[JournalSource]:
    """Open a source on that journal, which records signals."""
    with JournalSource(
        journal.folder,
        history=True,
        want_signals=True,
        find_daemons=lambda: (EARLYOOM, SYSTEMD_OOMD),
        program=journal.program(),
        bus=journal.folder / "no-bus",
        hook_dir=journal.folder / "no" / "hook",
    ) as source:
        yield source


def record(source: JournalSource, wanted: int) -> list[UserspaceKill]:
    """Return a number of kills of ``source`` once they are captured."""
    kills: list[UserspaceKill] = []

    def handle(event: CapturedEvent) -> None:
        assert isinstance(event, UserspaceKill | VictimExit)
        if isinstance(event, UserspaceKill):
            kills.append(event)

    wait_until(lambda: source.drain(handle) >= 0 and len(kills) >= wanted, "the kills")
    return kills


def test_a_process_that_is_gone_is_verified_by_its_signal(journal: Journal) -> None:
    """With what the message lacks; a message of another process that names it is not."""
    with open_journal(journal) as source, run_victims(1) as victims:
        (pid,) = [victim.pid for victim in victims]
        sender = kill_as(f"{_SLICE}/{EARLYOOM}", signal.SIGTERM, victims)
        name = Path(sys.executable).name
        message = f'sending SIGTERM to process {pid} uid 0 "{name}": badness 9, VmRSS 9 MiB'
        journal.add(EARLYOOM, message, time.time_ns(), pid=sender + 1)
        journal.add(EARLYOOM, message, time.time_ns(), pid=sender)
        other, own = record(source, 2)
    assert (other.verified, own.verified) == (False, True)
    assert own.victim
    assert own.victim.start_boottime_ns
    assert (own.victim.tgid, own.resident) == (pid, 9 * _MIB)


def test_the_processes_of_a_killed_cgroup_are_listed(journal: Journal) -> None:
    """All that the daemon killed, largest first, of that cgroup alone."""
    with ExitStack() as stack:
        source = stack.enter_context(open_journal(journal))
        memcg = stack.enter_context(own_memcg(64 * _MIB))
        victims = stack.enter_context(run_victims(2, *cgroup_prefix(memcg)))
        others = stack.enter_context(run_victims(1))
        sender = kill_as(f"{_SLICE}/{SYSTEMD_OOMD}", signal.SIGKILL, victims + others)
        message = (
            f"Killed {memcg.path} due to memory used (9) / total (10) and swap used (9) / "
            "total (10) being more than 90.00%"
        )
        journal.add(SYSTEMD_OOMD, message, time.time_ns(), pid=sender)
        (kill,) = record(source, 1)
    assert kill.tasks
    assert {task.tgid for task in kill.tasks.largest} == {victim.pid for victim in victims}
    assert (kill.tasks.count, kill.tasks.skipped, kill.verified) == (2, 0, True)
    assert all(task.resident > 8 * _MIB for task in kill.tasks.largest)


def test_signals_without_space_are_counted(journal: Journal) -> None:
    """No process of a large cgroup is missing silently."""
    script = f"for n in $(seq {_MANY}); do sleep 300 & echo $!; done; echo; wait"
    with ExitStack() as stack:
        source = stack.enter_context(open_journal(journal))
        memcg = stack.enter_context(own_memcg(256 * _MIB))
        command = [*cgroup_prefix(memcg), "sh", "-c", script]
        shell = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(shell.kill)
        assert shell.stdout
        pids = [int(line) for line in iter(shell.stdout.readline, b"\n")]
        sender = kill_as(f"{_SLICE}/{SYSTEMD_OOMD}", signal.SIGKILL, [shell], before=pids)
        message = (
            f"Killed {memcg.path} due to memory used (9) / total (10) and swap used (9) / "
            "total (10) being more than 90.00%"
        )
        journal.add(SYSTEMD_OOMD, message, time.time_ns(), pid=sender)
        (kill,) = record(source, 1)
    assert kill.tasks
    assert kill.tasks.skipped > 0
    assert kill.tasks.count + kill.tasks.skipped == len(pids) + 1
