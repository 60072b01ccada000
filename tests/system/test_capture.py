"""Kills of the running kernel, compared with its log and counters."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.linux import clock
from otel_oom.model.events import CapturedEvent, OomKill, VictimExit
from otel_oom.model.types import Task
from tests.testlib.kernel.kills import (
    kill_in,
    kill_many,
    kill_one,
    run_python,
)
from tests.testlib.kernel.memcg import MEMCG_LIMIT, own_memcg
from tests.testlib.kernel.oracle import KernelLog, read_oom_kill_count

pytestmark = pytest.mark.usefixtures("real_kills")

KB = 1024
DRAIN_S = 10.0


@pytest.fixture
def source() -> Iterator[LibbpfSource]:
    """Attach the kernel side."""
    with LibbpfSource() as attached:
        yield attached


def drain_until(
    source: LibbpfSource, complete: Callable[[list[CapturedEvent]], bool]
) -> list[CapturedEvent]:
    """Return the events of ``source`` once they are complete."""
    events: list[CapturedEvent] = []
    deadline = time.monotonic() + DRAIN_S
    while not complete(events):
        assert time.monotonic() < deadline, events
        select.select([source], [], [], 0.1)
        source.drain(events.append)
    return events


def filter_kills(events: list[CapturedEvent], pids: Collection[int]) -> list[OomKill]:
    """Return the kills of these processes: the host may have others."""
    kills = (event for event in events if isinstance(event, OomKill))
    return [kill for kill in kills if kill.victim.tgid in pids]


def filter_exits(events: list[CapturedEvent], pids: Collection[int]) -> list[VictimExit]:
    """Return the exits of these processes."""
    exits = (event for event in events if isinstance(event, VictimExit))
    return [exit_ for exit_ in exits if exit_.tgid in pids]


def capture(source: LibbpfSource, *pids: int) -> tuple[list[OomKill], list[VictimExit]]:
    """Return the kills and exits of these processes once all are captured."""

    def all_captured(events: list[CapturedEvent]) -> bool:
        return min(len(filter_kills(events, pids)), len(filter_exits(events, pids))) >= len(pids)

    events = drain_until(source, all_captured)
    return filter_kills(events, pids), filter_exits(events, pids)


def capture_kill(source: LibbpfSource, pid: int) -> OomKill:
    """Return the kill of a process."""
    (kill,), _ = capture(source, pid)
    return kill


def test_usage_of_a_removed_cgroup_is_that_of_the_mark(source: LibbpfSource) -> None:
    with own_memcg() as memcg:
        pid = kill_in(memcg)
    kill = capture_kill(source, pid)
    assert kill.memcg_usage is not None
    assert kill.memcg_usage.limit == MEMCG_LIMIT
    assert kill.memcg_usage.usage is not None
    assert kill.memory is not None
    assert kill.memory.anon <= kill.memcg_usage.usage <= MEMCG_LIMIT


def test_kill_equals_the_line_of_the_kernel_log(source: LibbpfSource) -> None:
    with KernelLog() as log:
        pid = kill_one()
        (logged,) = (line for line in log.read_killed_lines() if line.pid == pid)
    kill = capture_kill(source, pid)
    assert (kill.victim.tgid, kill.victim.comm) == (pid, "tail") == (logged.pid, logged.comm)
    assert (kill.victim.uid, kill.victim.score_adj) == (logged.uid, logged.score_adj)
    assert kill.memory is not None
    assert kill.memory.total_vm == logged.total_vm * KB
    assert kill.memory.anon == logged.anon * KB
    assert kill.memory.file == logged.file * KB
    assert kill.memory.shmem == logged.shmem * KB
    assert kill.memory.page_tables == logged.pgtables * KB


def test_victim_cgroup_has_path_and_inode(source: LibbpfSource) -> None:
    with own_memcg() as memcg, memcg.child("pod") as pod, pod.child("container") as container:
        inode, pid = container.inode, kill_in(container)
        kill = capture_kill(source, pid)
        assert kill.memcg is not None
        assert kill.memcg.path == f"{memcg.path}/pod/container"
        assert kill.memcg.id == inode
        assert not kill.memcg.path_cut


def test_executable_is_that_of_proc(source: LibbpfSource) -> None:
    program = (
        "import os, sys\n"
        "open(sys.argv[1], 'w').write('0')\n"
        "print(os.readlink('/proc/self/exe'), flush=True)\n"
        "held = b'x' * (64 << 20)\n"
    )
    with own_memcg() as memcg, run_python(program, memcg.procs) as allocator:
        assert allocator.stdout is not None
        executable = allocator.stdout.readline().decode().rstrip("\n")
        assert allocator.wait(30) == -signal.SIGKILL
    assert capture_kill(source, allocator.pid).victim.executable == executable


def test_ids_of_a_victim_in_namespaces_are_those_of_proc(source: LibbpfSource) -> None:
    child = (
        "import os, sys\n"
        "open(sys.argv[1], 'w').write('0')\n"
        "os.setresgid(65533, 65533, 65533)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "print(os.getpid(), os.stat('/proc/self/ns/mnt').st_ino,"
        " os.stat('/proc/self/ns/pid').st_ino, flush=True)\n"
        "held = b'x' * (64 << 20)\n"
    )
    with own_memcg() as memcg:
        words = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]
        with subprocess.Popen([*words, child, memcg.procs], stdout=subprocess.PIPE) as outer:
            assert outer.stdout is not None
            own_pid, mnt_ns, pid_ns = (int(word) for word in outer.stdout.readline().split())
            outer.wait(30)

    def children(events: list[CapturedEvent]) -> list[Task]:
        victims = (event.victim for event in events if isinstance(event, OomKill))
        return [victim for victim in victims if victim.ppid == outer.pid]

    (victim,) = children(drain_until(source, lambda events: bool(children(events))))
    assert (victim.namespaced_pid, victim.pid_ns, victim.mnt_ns) == (own_pid, pid_ns, mnt_ns)
    assert own_pid == 1
    assert victim.tgid is not None
    assert victim.tgid > 1
    assert (victim.uid, victim.gid) == (65534, 65533)


def test_trigger_can_be_another_process(source: LibbpfSource) -> None:
    """A small process allocates; a large one in its cgroup has the higher score."""
    program = (
        "import os, sys, time\n"
        "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "held = b'x' * (int(sys.argv[2]) << 20)\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    with own_memcg(32 << 20) as memcg, run_python(program, memcg.procs, "20") as big:
        assert big.stdout is not None
        assert big.stdout.readline() == b"held\n"
        Path(f"/proc/{big.pid}/oom_score_adj").write_text("1000", encoding="ascii")
        with run_python(program, memcg.procs, "16") as small:
            assert big.wait(30) == -signal.SIGKILL
            # It may allocate again before the memory is free, and be killed too.
            kill = capture_kill(source, big.pid)
    assert kill.victim.score_adj == 1000
    assert kill.trigger is not None
    assert kill.trigger.tgid == small.pid


def test_hostile_name_is_escaped(source: LibbpfSource) -> None:
    name = b"x) a\n\x1b[31m\xff"
    program = (
        "import sys\n"
        f"open('/proc/self/comm', 'wb').write({name!r})\n"
        "open(sys.argv[1], 'w').write('0')\n"
        "held = [bytearray(b'x' * (1 << 20)) for _ in range(64)]\n"
    )
    with own_memcg() as memcg, run_python(program, memcg.procs) as allocator:
        assert allocator.wait(30) == -signal.SIGKILL
    kill = capture_kill(source, allocator.pid)
    assert kill.victim.comm == "x) a\n\x1b[31m\\xff"


def test_process_with_many_threads_is_one_kill(source: LibbpfSource) -> None:
    program = (
        "import os, sys, threading, time\n"
        "open(sys.argv[1], 'w').write('0')\n"
        "for _ in range(8):\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "held = [bytearray(b'x' * (1 << 20)) for _ in range(96)]\n"
    )
    with own_memcg(32 << 20) as memcg, run_python(program, memcg.procs) as allocator:
        assert allocator.wait(30) == -signal.SIGKILL
    kills, exits = capture(source, allocator.pid)
    assert (len(kills), len(exits)) == (1, 1)


def test_exit_has_the_ids_of_its_kill(source: LibbpfSource) -> None:
    (kill,), (exit_,) = capture(source, kill_one())
    assert exit_.start_boottime_ns == kill.victim.start_boottime_ns
    assert exit_.boottime_ns > kill.boottime_ns
    assert exit_.exit_code is not None
    assert exit_.exit_code & 0x7F == signal.SIGKILL


def test_time_is_converted_to_unix_time(source: LibbpfSource) -> None:
    before = time.time_ns()
    pid = kill_one()
    after = time.time_ns()
    kill = capture_kill(source, pid)
    assert before < kill.time_unix_ns < after
    assert kill.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert abs(clock.boot_to_unix_offset_ns() - (kill.time_unix_ns - kill.boottime_ns)) < 10**9


def test_every_kill_of_a_storm_is_captured(source: LibbpfSource) -> None:
    counted = read_oom_kill_count()
    pids = kill_many(100)
    rise = read_oom_kill_count() - counted

    def all_captured(events: list[CapturedEvent]) -> bool:
        kills = [event for event in events if isinstance(event, OomKill)]
        return len(kills) >= rise and len(filter_exits(events, pids)) >= 100

    events = drain_until(source, all_captured)
    kills = filter_kills(events, pids)
    assert rise >= 100
    assert sorted(kill.victim.tgid or 0 for kill in kills) == sorted(pids)
    assert len({kill.uid for kill in kills}) == 100
    assert source.lost_events().victims == 0


def test_command_line_is_recorded_on_request_only(source: LibbpfSource) -> None:
    with LibbpfSource(want_command=True) as with_command:
        pid = kill_one()
        recorded = capture_kill(with_command, pid)
    default = capture_kill(source, pid)
    assert recorded.victim.command == ("tail", "/dev/zero")
    assert default.victim.command is None


def test_user_stack_has_the_build_ids_of_the_program(source: LibbpfSource) -> None:
    kill = capture_kill(source, kill_one())
    program = shutil.which("tail")
    assert program is not None
    libraries = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    files = [program, *re.findall(r"=> (/\S+)", libraries)]
    named = subprocess.run(["file", "-L", *files], check=True, capture_output=True, text=True)
    ids = set(re.findall(r"BuildID\[sha1\]=([0-9a-f]{40})", named.stdout))
    assert kill.user_stack
    assert {frame.build_id for frame in kill.user_stack} <= ids


def test_trigger_that_is_the_victim_has_its_cgroup(source: LibbpfSource) -> None:
    kill = capture_kill(source, kill_one())
    assert kill.trigger_memcg == kill.memcg is not None


def test_lost_events_of_a_full_ring_buffer_are_counted() -> None:
    with LibbpfSource(ring_bytes=os.sysconf("SC_PAGE_SIZE")) as small:
        counted = read_oom_kill_count()
        pids = kill_many(40, at_once=1)
        others = read_oom_kill_count() - counted - 40
        events: list[CapturedEvent] = []
        small.drain(events.append)
        loss = small.lost_events()
    captured = [kill.victim.tgid for kill in filter_kills(events, pids)]
    assert 0 < len(captured) < 40
    assert captured == pids[: len(captured)]
    lost_victims, lost_exits = 40 - len(captured), 40 - len(filter_exits(events, pids))
    # The count includes the kills of others.
    assert lost_victims <= loss.victims <= lost_victims + others
    assert lost_exits <= loss.exits <= lost_exits + others


def test_event_of_a_failed_handler_stays_pending(source: LibbpfSource) -> None:
    pids = [kill_one(), kill_one()]

    def full(_event: object) -> None:
        raise OSError("no space left on device")

    for _ in range(3):
        with pytest.raises(OSError, match="no space"):
            source.drain(full)
    kills, _ = capture(source, *pids)
    assert [kill.victim.tgid for kill in kills] == pids


def test_repeated_kills_in_one_cgroup_are_captured(source: LibbpfSource) -> None:
    with own_memcg() as memcg:
        pids = [kill_in(memcg) for _ in range(5)]
    kills, _ = capture(source, *pids)
    assert [kill.victim.tgid for kill in kills] == pids
