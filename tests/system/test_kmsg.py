"""Real kills told by the kernel's log, held against its own counters and against BPF."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.kmsg.report_lookup import OomReportIndex
from otel_oom.capture.kmsg.source import KmsgSource
from otel_oom.linux import clock
from otel_oom.model.events import CapturedEvent, OomKill, VictimExit
from otel_oom.model.types import OomControl
from tests.testlib.kernel.kills import kill_many, kill_one, run_python
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.kernel.oracle import KernelLog, read_oom_kill_count

pytestmark = pytest.mark.usefixtures("real_kills")

KB = 1024
DRAIN_S = 10.0
CLOCKS_NS = 50_000_000
"""How late a line may be told when the reader waits for it and the machine is busy."""

HOSTILE = b"x) a\n\x1b[31m\xff"
NAMED = (
    "import ctypes, os, sys\n"
    "open('/proc/self/comm', 'wb').write(bytes.fromhex(sys.argv[2]))\n"
    "open(sys.argv[1], 'w').write('0')\n"
    "held = b'x' * (64 << 20)\n"
)


_T = TypeVar("_T")


def reported(make: Callable[[], tuple[int, _T]]) -> _T:
    """What ``make`` gives with a kill's pid, for the first kill that the kernel reports whole.

    It leaves reports out when kills come fast, whoever has made them.
    """
    for _ in range(20):
        with KernelLog() as log:
            pid, value = make()
            if pid in log.read_reported_pids():
                return value
        time.sleep(1)
    raise AssertionError("the kernel reports no kill")


@pytest.fixture
def source() -> Iterator[KmsgSource]:
    """The log, from its end on."""
    with KmsgSource() as opened:
        yield opened


def drain(
    source: KmsgSource | LibbpfSource, done: Callable[[list[CapturedEvent]], bool]
) -> list[CapturedEvent]:
    """What ``source`` tells until that is enough."""
    events: list[CapturedEvent] = []
    deadline = time.monotonic() + DRAIN_S
    while not done(events):
        assert time.monotonic() < deadline, events
        select.select([source], [], [], 0.1)
        source.drain(events.append)
    return events


def kills_of(source: KmsgSource | LibbpfSource, pids: list[int]) -> list[OomKill]:
    """The kills of these processes, once each of them is told."""

    def ours(events: list[CapturedEvent]) -> list[OomKill]:
        kills = (event for event in events if isinstance(event, OomKill))
        return [kill for kill in kills if kill.victim.tgid in pids]

    return ours(drain(source, lambda events: {k.victim.tgid for k in ours(events)} >= set(pids)))


def outside(kill: OomKill) -> list[str]:
    """The functions around the decision, by name and offset."""
    functions = [frame.partition("+")[0] for frame in kill.stack]
    return list(kill.stack[functions.index("out_of_memory") :])


def test_both_sources_tell_the_same_kill(source: KmsgSource) -> None:
    """Victim, trigger, memory, cgroup, stack and time are those that BPF saw."""
    before = time.time_ns()

    def kill() -> tuple[int, tuple[OomKill, OomKill]]:
        with own_memcg() as memcg, run_python(NAMED, memcg.procs, HOSTILE.hex()) as hungry:
            (logged,) = kills_of(source, [hungry.pid])
            (seen,) = kills_of(bpf, [hungry.pid])
        return hungry.pid, (logged, seen)

    with LibbpfSource() as bpf:
        logged, seen = reported(kill)
    assert (logged.victim.tgid, logged.victim.tid) == (seen.victim.tgid, seen.victim.tid)
    assert logged.victim.comm == seen.victim.comm == "x) a\n\x1b[31m\\xff"
    assert (logged.victim.uid, logged.victim.score_adj) == (seen.victim.uid, seen.victim.score_adj)
    assert logged.trigger is not None
    assert seen.trigger is not None
    assert (logged.trigger.tgid, logged.trigger.tid) == (seen.trigger.tgid, seen.trigger.tid)
    assert (logged.trigger.comm, logged.trigger.uid) == (seen.trigger.comm, seen.trigger.uid)
    assert logged.memory is not None
    assert seen.memory is not None
    assert logged.memory.swap is None
    for part in ("total_vm", "anon", "file", "shmem", "page_tables"):
        assert getattr(logged.memory, part) == getattr(seen.memory, part) // KB * KB, part
    assert logged.memcg is not None
    assert seen.memcg is not None
    assert (logged.memcg.path, logged.memcg.id) == (seen.memcg.path, None)
    assert outside(logged) == outside(seen)
    assert logged.boot_id == seen.boot_id
    # The log's line comes after the mark, and its clock is mapped: late, hardly ever early.
    assert -1_000_000 < logged.boottime_ns - seen.boottime_ns < CLOCKS_NS
    assert before < logged.time_unix_ns < time.time_ns()
    for name in ("ppid", "gid", "namespaced_pid", "pid_ns", "mnt_ns"):
        assert getattr(logged.victim, name) in {None, getattr(seen.victim, name)}, name


def test_a_victim_that_lingers_is_told_whole(source: KmsgSource) -> None:
    """While its parent has not waited for it, /proc tells its parent, group and start."""
    program = NAMED.replace("held", "os.setresgid(65533, 65533, 65533)\nheld")
    with (
        LibbpfSource() as bpf,
        own_memcg() as memcg,
        run_python(program, memcg.procs, b"lingerer".hex()) as hungry,
    ):
        (logged,) = kills_of(source, [hungry.pid])
        (seen,) = kills_of(bpf, [hungry.pid])
    victim = logged.victim
    assert (victim.ppid, victim.gid, victim.namespaced_pid) == (os.getpid(), 65533, hungry.pid)
    assert victim.start_boottime_ns is not None
    assert seen.victim.start_boottime_ns is not None
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert 0 <= seen.victim.start_boottime_ns - victim.start_boottime_ns < tick


def test_what_was_weighed_is_told(source: KmsgSource) -> None:
    """The cgroup and the limits are those that were set; the request is a page fault's."""

    def weighed() -> tuple[int, tuple[str, OomKill]]:
        with (
            own_memcg(32 << 20) as memcg,
            run_python(NAMED, memcg.procs, b"weighed".hex()) as hungry,
        ):
            (kill,) = kills_of(source, [hungry.pid])
        return hungry.pid, (memcg.path, kill)

    path, kill = reported(weighed)
    decision = kill.decision
    assert decision is not None
    assert (decision.source, decision.constraint, decision.order) == ("/dev/kmsg", "memcg", 0)
    assert decision.message == "Memory cgroup out of memory"
    assert decision.gfp_flags == "GFP_KERNEL"
    assert (decision.points, decision.total_memory) == (None, None)
    assert decision.memcg is not None
    assert decision.memcg.path == path
    assert decision.memcg_usage is not None
    assert decision.memcg_usage.limit == 32 << 20
    assert decision.memcg_usage.usage is not None
    assert 30 << 20 < decision.memcg_usage.usage <= 32 << 20


def test_a_context_tells_it_of_a_kill_that_another_source_saw() -> None:
    """When BPF's record of the mark is read, the log has its decision already."""

    def ask() -> tuple[int, tuple[OomKill, OomControl | None]]:
        pid = kill_one()
        (kill,) = kills_of(bpf, [pid])
        return pid, (kill, index.annotate(replace(kill, decision=None)).decision)

    with LibbpfSource() as bpf, OomReportIndex() as index:
        kill, decision = reported(ask)
    assert decision is not None
    assert decision.constraint == "memcg"
    assert decision.memcg is not None
    assert kill.memcg is not None
    assert decision.memcg.path == kill.memcg.path
    assert decision.memcg_usage is not None


def test_a_thread_is_told_with_its_process(source: KmsgSource) -> None:
    """The log has the number of the thread that asked; told is the process it is of."""
    program = (
        "import sys, threading\n"
        "def take():\n"
        "    open('/proc/thread-self/comm', 'w').write('second')\n"
        "    print(threading.get_native_id(), flush=True)\n"
        "    held = b'x' * (64 << 20)\n"
        "open(sys.argv[1], 'w').write('0')\n"
        "threading.Thread(target=take).start()\n"
    )

    def from_a_thread() -> tuple[int, tuple[int, OomKill]]:
        with own_memcg() as memcg, run_python(program, memcg.procs) as hungry:
            assert hungry.stdout is not None
            tid = int(hungry.stdout.readline())
            (kill,) = kills_of(source, [hungry.pid])
        return hungry.pid, (tid, kill)

    # A thread that is not its process's first leaves /proc as soon as it is dead.
    for _ in range(10):
        tid, kill = reported(from_a_thread)
        if kill.trigger is not None:
            break
    assert kill.trigger is not None
    assert (kill.trigger.tid, kill.trigger.comm) == (tid, "second")
    assert kill.trigger.tgid == kill.victim.tgid != tid


def test_every_kill_of_a_storm_is_told(source: KmsgSource) -> None:
    """Thirty kills are as many as the kernel counts, though it leaves most reports out."""
    with KernelLog() as log:
        counted = read_oom_kill_count()
        pids = kill_many(30)
        rise = read_oom_kill_count() - counted
        killed = [line.pid for line in log.read_killed_lines()]
    kills = kills_of(source, pids)
    assert sorted(kill.victim.tgid or 0 for kill in kills) == sorted(pids)
    assert len({kill.uid for kill in kills}) == 30
    # Others of this host may be killed meanwhile: the log tells of them as well.
    assert rise == len(killed) >= 30
    assert all(kill.incident is None for kill in kills)
    assert any(kill.decision and kill.decision.order is None for kill in kills)
    assert source.lost_events().log_lines == 0


def test_what_user_space_writes_is_no_kill(source: KmsgSource) -> None:
    """A line like a kill's, written by a program, makes none; the real one behind it does."""
    fake = (
        "Memory cgroup out of memory: Killed process 1 (init) total-vm:4kB, anon-rss:4kB, "
        "file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0\n"
    )
    for level in ("<3>", "<0>", "<11>", ""):
        Path("/dev/kmsg").write_text(level + fake, encoding="ascii")
    pid = kill_one()
    told = drain(source, lambda events: pid in [_tgid(event) for event in events])
    assert 1 not in [_tgid(event) for event in told]


def _tgid(event: CapturedEvent) -> int | None:
    return event.victim.tgid if isinstance(event, OomKill) else None


def _ended(event: CapturedEvent) -> int | None:
    return event.tgid if isinstance(event, VictimExit) else None


def test_the_end_of_a_victim_is_told(source: KmsgSource) -> None:
    """The end comes as soon as the victim is dead, while nobody has waited for it: by SIGKILL."""
    with own_memcg() as memcg, run_python(NAMED, memcg.procs, b"ender".hex()) as hungry:
        told = drain(source, lambda events: hungry.pid in map(_ended, events))
    (kill,) = (event for event in told if _tgid(event) == hungry.pid)
    (exit_,) = (event for event in told if _ended(event) == hungry.pid)
    assert isinstance(kill, OomKill)
    assert isinstance(exit_, VictimExit)
    assert (exit_.tgid, exit_.start_boottime_ns) == (hungry.pid, kill.victim.start_boottime_ns)
    assert exit_.exit_code == signal.SIGKILL
    assert kill.boottime_ns < exit_.boottime_ns < clock.boottime_ns()
