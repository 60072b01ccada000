"""Real kills on the running kernel, held against its own log and counters."""

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

from otel_oom.capture import watch
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
    """The kernel side, attached."""
    with LibbpfSource() as attached:
        yield attached


def events_of(
    source: LibbpfSource, enough: Callable[[list[CapturedEvent]], bool]
) -> list[CapturedEvent]:
    """What ``source`` tells until that is enough, of whomever."""
    events: list[CapturedEvent] = []
    deadline = time.monotonic() + DRAIN_S
    while not enough(events):
        assert time.monotonic() < deadline, events
        select.select([source], [], [], 0.1)
        source.drain(events.append)
    return events


def kills_in(events: list[CapturedEvent], pids: Collection[int]) -> list[OomKill]:
    """Those of these processes: other programs of this host may have others at the same time."""
    kills = (event for event in events if isinstance(event, OomKill))
    return [kill for kill in kills if kill.victim.tgid in pids]


def exits_in(events: list[CapturedEvent], pids: Collection[int]) -> list[VictimExit]:
    """Likewise."""
    exits = (event for event in events if isinstance(event, VictimExit))
    return [exit_ for exit_ in exits if exit_.tgid in pids]


def drain(source: LibbpfSource, *pids: int) -> tuple[list[OomKill], list[VictimExit]]:
    """The kills and the ends of these processes, once there are as many of each."""

    def all_told(events: list[CapturedEvent]) -> bool:
        return min(len(kills_in(events, pids)), len(exits_in(events, pids))) >= len(pids)

    events = events_of(source, all_told)
    return kills_in(events, pids), exits_in(events, pids)


def drained(source: LibbpfSource, pid: int) -> OomKill:
    """The one kill of that process."""
    (kill,), _ = drain(source, pid)
    return kill


def test_the_limits_of_a_cgroup_that_is_removed_at_once_are_told(source: LibbpfSource) -> None:
    """They are as of the mark: when its record is taken, there is no file of the cgroup's."""
    with own_memcg() as memcg:
        pid = kill_in(memcg)
    kill = drained(source, pid)
    assert kill.memcg_usage is not None
    assert kill.memcg_usage.limit == MEMCG_LIMIT
    assert kill.memcg_usage.usage is not None
    assert kill.memory is not None
    assert kill.memory.anon <= kill.memcg_usage.usage <= MEMCG_LIMIT


def test_a_kill_is_told_as_the_kernel_logs_it(source: LibbpfSource) -> None:
    """Pid, comm, uid, score and every size are those of the kernel's own "Killed process" line."""
    with KernelLog() as log:
        pid = kill_one()
        (logged,) = (line for line in log.read_killed_lines() if line.pid == pid)
    kill = drained(source, pid)
    assert (kill.victim.tgid, kill.victim.comm) == (pid, "tail") == (logged.pid, logged.comm)
    assert (kill.victim.uid, kill.victim.score_adj) == (logged.uid, logged.score_adj)
    assert kill.memory is not None
    assert kill.memory.total_vm == logged.total_vm * KB
    assert kill.memory.anon == logged.anon * KB
    assert kill.memory.file == logged.file * KB
    assert kill.memory.shmem == logged.shmem * KB
    assert kill.memory.page_tables == logged.pgtables * KB


def test_the_victims_cgroup_is_told_by_path_and_inode(source: LibbpfSource) -> None:
    """A nested cgroup comes as its whole path, and its id is its folder's inode."""
    with own_memcg() as memcg, memcg.child("pod") as pod, pod.child("container") as container:
        inode, pid = container.inode, kill_in(container)
        kill = drained(source, pid)
        assert kill.memcg is not None
        assert kill.memcg.path == f"{memcg.path}/pod/container"
        assert kill.memcg.id == inode
        assert not kill.memcg.path_cut


def test_the_executable_is_told_by_its_path(source: LibbpfSource) -> None:
    """The path is the one that /proc showed while the victim lived."""
    program = (
        "import os, sys\n"
        "open(sys.argv[1], 'w').write('0')\n"
        "print(os.readlink('/proc/self/exe'), flush=True)\n"
        "held = b'x' * (64 << 20)\n"
    )
    with own_memcg() as memcg, run_python(program, memcg.procs) as hungry:
        assert hungry.stdout is not None
        shown = hungry.stdout.readline().decode().rstrip("\n")
        assert hungry.wait(30) == -signal.SIGKILL
    assert drained(source, hungry.pid).victim.executable == shown


def test_the_victims_ids_are_those_that_proc_showed(source: LibbpfSource) -> None:
    """Parent, user, group, own pid and namespaces of a process in a PID namespace of its own."""
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

    (victim,) = children(events_of(source, lambda events: bool(children(events))))
    assert (victim.namespaced_pid, victim.pid_ns, victim.mnt_ns) == (own_pid, pid_ns, mnt_ns)
    assert own_pid == 1
    assert victim.tgid is not None
    assert victim.tgid > 1
    assert (victim.uid, victim.gid) == (65534, 65533)


def test_the_trigger_can_be_another_process(source: LibbpfSource) -> None:
    """Who asked for the memory is told apart from who was killed for it.

    A small process asks for memory that a large neighbour in its cgroup holds; the neighbour's
    oom_score_adj makes it the victim.
    """
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
            # It may ask again before the memory is free, and be killed itself.
            kill = drained(source, big.pid)
    assert kill.victim.score_adj == 1000
    assert kill.trigger is not None
    assert kill.trigger.tgid == small.pid


def test_a_hostile_name_arrives_as_text(source: LibbpfSource) -> None:
    """A comm of parentheses, controls and bytes that are no UTF-8 is text, and loses nothing."""
    name = b"x) a\n\x1b[31m\xff"
    program = (
        "import sys\n"
        f"open('/proc/self/comm', 'wb').write({name!r})\n"
        "open(sys.argv[1], 'w').write('0')\n"
        "held = [bytearray(b'x' * (1 << 20)) for _ in range(64)]\n"
    )
    with own_memcg() as memcg, run_python(program, memcg.procs) as hungry:
        assert hungry.wait(30) == -signal.SIGKILL
    kill = drained(source, hungry.pid)
    assert kill.victim.comm == "x) a\n\x1b[31m\\xff"


def test_a_process_of_many_threads_is_one_kill(source: LibbpfSource) -> None:
    """However many threads a victim has, it is one kill and one exit."""
    program = (
        "import os, sys, threading, time\n"
        "open(sys.argv[1], 'w').write('0')\n"
        "for _ in range(8):\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "held = [bytearray(b'x' * (1 << 20)) for _ in range(96)]\n"
    )
    with own_memcg(32 << 20) as memcg, run_python(program, memcg.procs) as hungry:
        assert hungry.wait(30) == -signal.SIGKILL
    kills, exits = drain(source, hungry.pid)
    assert (len(kills), len(exits)) == (1, 1)


def test_the_exit_belongs_to_its_kill(source: LibbpfSource) -> None:
    """The end names the same process, later than the mark, killed by SIGKILL."""
    (kill,), (exit_,) = drain(source, kill_one())
    assert exit_.start_boottime_ns == kill.victim.start_boottime_ns
    assert exit_.boottime_ns > kill.boottime_ns
    assert exit_.exit_code is not None
    assert exit_.exit_code & 0x7F == signal.SIGKILL


def test_the_kernels_time_is_told_in_unix_time(source: LibbpfSource) -> None:
    """The time of a kill lies between the moments before and after it."""
    before = time.time_ns()
    pid = kill_one()
    after = time.time_ns()
    kill = drained(source, pid)
    assert before < kill.time_unix_ns < after
    assert kill.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert abs(clock.boot_to_unix_offset_ns() - (kill.time_unix_ns - kill.boottime_ns)) < 10**9


def test_every_kill_of_a_storm_is_seen(source: LibbpfSource) -> None:
    """A hundred kills are a hundred records, and no fewer than the kernel counts."""
    counted = read_oom_kill_count()
    pids = kill_many(100)
    rise = read_oom_kill_count() - counted

    def all_told(events: list[CapturedEvent]) -> bool:
        kills = [event for event in events if isinstance(event, OomKill)]
        return len(kills) >= rise and len(exits_in(events, pids)) >= 100

    events = events_of(source, all_told)
    kills = kills_in(events, pids)
    assert rise >= 100
    assert sorted(kill.victim.tgid or 0 for kill in kills) == sorted(pids)
    assert len({kill.uid for kill in kills}) == 100
    assert source.lost_events().victims == 0


def test_the_command_line_is_told_on_request_alone(source: LibbpfSource) -> None:
    """Its words are those that the victim was started with; by default there are none."""
    with LibbpfSource(want_command=True) as asked:
        pid = kill_one()
        told = drained(asked, pid)
    untold = drained(source, pid)
    assert told.victim.command == ("tail", "/dev/zero")
    assert untold.victim.command is None


def test_the_triggers_program_is_told_by_build_id(source: LibbpfSource) -> None:
    """The frames are in the files that the trigger runs, as those name themselves."""
    kill = drained(source, kill_one())
    program = shutil.which("tail")
    assert program is not None
    shown = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    files = [program, *re.findall(r"=> (/\S+)", shown)]
    named = subprocess.run(["file", "-L", *files], check=True, capture_output=True, text=True)
    ids = set(re.findall(r"BuildID\[sha1\]=([0-9a-f]{40})", named.stdout))
    assert kill.user_stack
    assert {frame.build_id for frame in kill.user_stack} <= ids


def test_the_triggers_cgroup_is_told(source: LibbpfSource) -> None:
    """Where the victim asked for the memory itself, it is the victim's."""
    kill = drained(source, kill_one())
    assert kill.trigger_memcg == kill.memcg is not None


def test_a_full_ring_buffer_is_counted() -> None:
    """What the kernel's buffer had no room for is told by number."""
    with LibbpfSource(ring_bytes=os.sysconf("SC_PAGE_SIZE")) as small:
        counted = read_oom_kill_count()
        pids = kill_many(40, at_once=1)
        others = read_oom_kill_count() - counted - 40
        events: list[CapturedEvent] = []
        small.drain(events.append)
        loss = small.lost_events()
    seen = [kill.victim.tgid for kill in kills_in(events, pids)]
    assert 0 < len(seen) < 40
    assert seen == pids[: len(seen)]
    lost_victims, lost_exits = 40 - len(seen), 40 - len(exits_in(events, pids))
    # Of whose kills the others' were, the count does not say.
    assert lost_victims <= loss.victims <= lost_victims + others
    assert lost_exits <= loss.exits <= lost_exits + others


def test_a_failing_handler_keeps_the_event(source: LibbpfSource) -> None:
    """An event whose handler raised comes again, first, and only then the ones behind it."""
    pids = [kill_one(), kill_one()]

    def full(_event: object) -> None:
        raise OSError("no space left on device")

    for _ in range(3):
        with pytest.raises(OSError, match="no space"):
            source.drain(full)
    kills, _ = drain(source, *pids)
    assert [kill.victim.tgid for kill in kills] == pids


def test_kills_in_one_cgroup_after_another(source: LibbpfSource) -> None:
    """The same cgroup can kill again and again; each is told."""
    with own_memcg() as memcg:
        pids = [kill_in(memcg) for _ in range(5)]
    kills, _ = drain(source, *pids)
    assert [kill.victim.tgid for kill in kills] == pids


def test_what_is_closed_says_so() -> None:
    """Events asked for after their context has ended are none, and no crash."""
    with watch() as events, watch():
        pass
    assert list(events) == []
