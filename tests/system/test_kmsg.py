"""Kills captured from the kernel log, compared with its counters and with BPF."""

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
MAX_DELAY_NS = 50_000_000
"""Largest delay of a line if the reader waits for it and the machine is busy."""

HOSTILE = b"x) a\n\x1b[31m\xff"
NAMED = (
    "import ctypes, os, sys\n"
    "open('/proc/self/comm', 'wb').write(bytes.fromhex(sys.argv[2]))\n"
    "open(sys.argv[1], 'w').write('0')\n"
    "held = b'x' * (64 << 20)\n"
)


_T = TypeVar("_T")


def make_reported_kill(make: Callable[[], tuple[int, _T]]) -> _T:
    """Return what ``make`` returns for a kill that the kernel reports.

    The kernel prints no report when kills come fast, whoever made them.
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
    """Open the kernel log at its end."""
    with KmsgSource() as opened:
        yield opened


def drain_until(
    source: KmsgSource | LibbpfSource, done: Callable[[list[CapturedEvent]], bool]
) -> list[CapturedEvent]:
    """Return the events of ``source`` once they are complete."""
    events: list[CapturedEvent] = []
    deadline = time.monotonic() + DRAIN_S
    while not done(events):
        assert time.monotonic() < deadline, events
        select.select([source], [], [], 0.1)
        source.drain(events.append)
    return events


def capture_kills(source: KmsgSource | LibbpfSource, pids: list[int]) -> list[OomKill]:
    """Return the kills of these processes once all are captured."""

    def matching(events: list[CapturedEvent]) -> list[OomKill]:
        kills = (event for event in events if isinstance(event, OomKill))
        return [kill for kill in kills if kill.victim.tgid in pids]

    return matching(
        drain_until(source, lambda events: {k.victim.tgid for k in matching(events)} >= set(pids))
    )


def outer_frames(kill: OomKill) -> list[str]:
    """Return the frames around the decision."""
    functions = [frame.partition("+")[0] for frame in kill.stack]
    return list(kill.stack[functions.index("out_of_memory") :])


def test_kernel_log_and_bpf_capture_the_same_kill(source: KmsgSource) -> None:
    before = time.time_ns()

    def kill() -> tuple[int, tuple[OomKill, OomKill]]:
        with own_memcg() as memcg, run_python(NAMED, memcg.procs, HOSTILE.hex()) as hungry:
            (logged,) = capture_kills(source, [hungry.pid])
            (by_bpf,) = capture_kills(bpf, [hungry.pid])
        return hungry.pid, (logged, by_bpf)

    with LibbpfSource() as bpf:
        logged, by_bpf = make_reported_kill(kill)
    assert (logged.victim.tgid, logged.victim.tid) == (by_bpf.victim.tgid, by_bpf.victim.tid)
    assert logged.victim.comm == by_bpf.victim.comm == "x) a\n\x1b[31m\\xff"
    assert (logged.victim.uid, logged.victim.score_adj) == (
        by_bpf.victim.uid,
        by_bpf.victim.score_adj,
    )
    assert logged.trigger is not None
    assert by_bpf.trigger is not None
    assert (logged.trigger.tgid, logged.trigger.tid) == (by_bpf.trigger.tgid, by_bpf.trigger.tid)
    assert (logged.trigger.comm, logged.trigger.uid) == (by_bpf.trigger.comm, by_bpf.trigger.uid)
    assert logged.memory is not None
    assert by_bpf.memory is not None
    assert logged.memory.swap is None
    for part in ("total_vm", "anon", "file", "shmem", "page_tables"):
        assert getattr(logged.memory, part) == getattr(by_bpf.memory, part) // KB * KB, part
    assert logged.memcg is not None
    assert by_bpf.memcg is not None
    assert (logged.memcg.path, logged.memcg.id) == (by_bpf.memcg.path, None)
    assert outer_frames(logged) == outer_frames(by_bpf)
    assert logged.boot_id == by_bpf.boot_id
    # The line follows the mark, and its clock is converted: late, hardly ever early.
    assert -1_000_000 < logged.boottime_ns - by_bpf.boottime_ns < MAX_DELAY_NS
    assert before < logged.time_unix_ns < time.time_ns()
    for name in ("ppid", "gid", "namespaced_pid", "pid_ns", "mnt_ns"):
        assert getattr(logged.victim, name) in {None, getattr(by_bpf.victim, name)}, name


def test_zombie_victim_has_parent_and_group(source: KmsgSource) -> None:
    """Until its parent waits for it, the kernel has them, and its start once its memory is gone."""
    program = NAMED.replace("held", "os.setresgid(65533, 65533, 65533)\nheld")
    with (
        LibbpfSource() as bpf,
        own_memcg() as memcg,
        run_python(program, memcg.procs, b"zombie".hex()) as hungry,
    ):
        (logged,) = capture_kills(source, [hungry.pid])
        (by_bpf,) = capture_kills(bpf, [hungry.pid])
    victim = logged.victim
    assert victim.namespaced_pid == hungry.pid
    # Before Linux 6.13, only once its memory is gone.
    assert (victim.ppid, victim.gid) in {(os.getpid(), 65533), (None, None)}
    assert by_bpf.victim.start_boottime_ns is not None
    if victim.start_boottime_ns is not None:
        tick = 10**9 // os.sysconf("SC_CLK_TCK")
        assert 0 <= by_bpf.victim.start_boottime_ns - victim.start_boottime_ns < tick


def test_decision_is_parsed(source: KmsgSource) -> None:
    def make() -> tuple[int, tuple[str, OomKill]]:
        with (
            own_memcg(32 << 20) as memcg,
            run_python(NAMED, memcg.procs, b"decision".hex()) as hungry,
        ):
            (kill,) = capture_kills(source, [hungry.pid])
        return hungry.pid, (memcg.path, kill)

    path, kill = make_reported_kill(make)
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


def test_kill_by_bpf_is_annotated_with_the_decision() -> None:
    """The log has the report when the record of the mark is read."""

    def make() -> tuple[int, tuple[OomKill, OomControl | None]]:
        pid = kill_one()
        (kill,) = capture_kills(bpf, [pid])
        return pid, (kill, index.annotate(replace(kill, decision=None)).decision)

    with LibbpfSource() as bpf, OomReportIndex() as index:
        kill, decision = make_reported_kill(make)
    assert decision is not None
    assert decision.constraint == "memcg"
    assert decision.memcg is not None
    assert kill.memcg is not None
    assert decision.memcg.path == kill.memcg.path
    assert decision.memcg_usage is not None


def test_trigger_thread_has_its_process(source: KmsgSource) -> None:
    """The log has only the thread."""
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
            (kill,) = capture_kills(source, [hungry.pid])
        return hungry.pid, (tid, kill)

    # A thread other than the first leaves /proc as soon as it is dead.
    for _ in range(10):
        tid, kill = make_reported_kill(from_a_thread)
        if kill.trigger is not None:
            break
    assert kill.trigger is not None
    assert (kill.trigger.tid, kill.trigger.comm) == (tid, "second")
    assert kill.trigger.tgid == kill.victim.tgid != tid


def test_every_kill_of_a_storm_is_captured(source: KmsgSource) -> None:
    """The kernel prints few reports then."""
    with KernelLog() as log:
        counted = read_oom_kill_count()
        pids = kill_many(30)
        rise = read_oom_kill_count() - counted
        killed = [line.pid for line in log.read_killed_lines()]
    kills = capture_kills(source, pids)
    assert sorted(kill.victim.tgid or 0 for kill in kills) == sorted(pids)
    assert len({kill.uid for kill in kills}) == 30
    # Other processes of this host may be killed meanwhile.
    assert rise == len(killed) >= 30
    assert all(kill.incident is None for kill in kills)
    assert any(kill.decision and kill.decision.order is None for kill in kills)
    assert source.lost_events().log_lines == 0


def test_line_of_user_space_is_no_kill(source: KmsgSource) -> None:
    fake = (
        "Memory cgroup out of memory: Killed process 1 (init) total-vm:4kB, anon-rss:4kB, "
        "file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0\n"
    )
    for level in ("<3>", "<0>", "<11>", ""):
        Path("/dev/kmsg").write_text(level + fake, encoding="ascii")
    pid = kill_one()
    events = drain_until(source, lambda events: pid in [_killed_tgid(event) for event in events])
    assert 1 not in [_killed_tgid(event) for event in events]


def _killed_tgid(event: CapturedEvent) -> int | None:
    return event.victim.tgid if isinstance(event, OomKill) else None


def _exited_tgid(event: CapturedEvent) -> int | None:
    return event.tgid if isinstance(event, VictimExit) else None


def test_exit_of_the_victim_is_captured(source: KmsgSource) -> None:
    """Before its parent waits for it."""
    with own_memcg() as memcg, run_python(NAMED, memcg.procs, b"ender".hex()) as hungry:
        events = drain_until(source, lambda events: hungry.pid in map(_exited_tgid, events))
    (kill,) = (event for event in events if _killed_tgid(event) == hungry.pid)
    (exit_,) = (event for event in events if _exited_tgid(event) == hungry.pid)
    assert isinstance(kill, OomKill)
    assert isinstance(exit_, VictimExit)
    assert (exit_.tgid, exit_.start_boottime_ns) == (hungry.pid, kill.victim.start_boottime_ns)
    assert exit_.exit_code == signal.SIGKILL
    assert kill.boottime_ns < exit_.boottime_ns < clock.boottime_ns()
