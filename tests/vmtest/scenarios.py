"""The scenarios that are played on every kernel.

Each makes its kills for real and returns what it knows of them beforehand: victims, cgroup,
trigger. The first sentence of its docstring is its row of the table in docs/kernels.md.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from otel_oom.linux.temporary_cgroup import Cgroup
from tests.testlib.kernel.kills import run_python, wait_until_asleep, wait_until_killed
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.speed import slowness
from tests.vmtest import constraint_scenarios, edge_scenarios, programs
from tests.vmtest.bpftrace import start_bpftrace
from tests.vmtest.programs import fill_cgroup
from tests.vmtest.requirements import (
    can_protect,
    has_bpftrace,
    has_cgroup_v2,
    is_guest,
    requires,
)
from tests.vmtest.scenario_kills import ScenarioKills
from tests.vmtest.source_recorder import wait_until_completed
from tests.vmtest.victim_code import (
    ALLOCATE,
    ALLOCATE_4_GIB,
    ENTER_CGROUP,
    EXIT_NUMBER,
    WAIT,
    hold_memory,
)

_TINY: Final = 1 << 20
_SMALL: Final = 16 << 20
_LIMIT: Final = 32 << 20  # Python itself needs some of it

STORM: Final = 300
_AT_ONCE: Final = 4
_STORM_S: Final = 120.0


HOSTILE: Final = b"x) a\n\\\x1b[31m\xff"
HOSTILE_UID: Final = 4242
HOSTILE_SCORE: Final = 300


def memcg() -> ScenarioKills:
    """One process exceeds the limit of its cgroup."""
    with own_memcg(_SMALL) as own:
        return ScenarioKills([pid := fill_cgroup(own)], own.path, own.inode, trigger=pid)


def nested() -> ScenarioKills:
    """The limit of the cgroup two levels above the victim's is hit."""
    return _kill_in_nested(apart=True)


@requires(has_cgroup_v2)
def uncontrolled() -> ScenarioKills:
    """The victim's cgroup has no memory controller; the one two levels above accounts it."""
    return _kill_in_nested(apart=False)


def _kill_in_nested(*, apart: bool) -> ScenarioKills:
    with own_memcg(_SMALL) as own, own.child("pod") as pod:
        if apart:
            own.delegate_memory()
            pod.delegate_memory()
        with pod.child("container") as container:
            pid = fill_cgroup(container)
            accounted = container if apart else own
            scope = "ancestor" if apart else "own"
            return ScenarioKills([pid], accounted.path, accounted.inode, trigger=pid, scope=scope)


def threads() -> ScenarioKills:
    """The victim has nine threads; another one than the first allocates."""
    return _exceed_limit(
        "import threading\nfor _ in range(8):\n"
        "    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        f"eater = threading.Thread(target=lambda: {ALLOCATE.split('= ')[1].strip()})\n"
        "eater.start()\n"
        "eater.join()\n"
    )


def leaderless() -> ScenarioKills:
    """The victim's first thread has exited before; its pid still names the process."""
    return _exceed_limit(
        f"import ctypes, threading\ndef eat():\n    time.sleep(0.5)\n    {ALLOCATE}"
        "threading.Thread(target=eat).start()\n"
        f"ctypes.CDLL(None).syscall({EXIT_NUMBER}, 0)\n"  # of this thread alone
    )


def hostile() -> ScenarioKills:
    """The victim's name tries to break parsers; another user, another oom_score_adj."""
    return _exceed_limit(
        f"open('/proc/self/oom_score_adj', 'w').write('{HOSTILE_SCORE}')\n"
        f"open('/proc/self/comm', 'wb').write({HOSTILE!r})\n"
        f"os.setuid({HOSTILE_UID})\n{ALLOCATE}"
    )


def _exceed_limit(program: str) -> ScenarioKills:
    with own_memcg(_LIMIT) as own, run_python(ENTER_CGROUP + program, own.procs) as eater:
        wait_until_killed(eater)
        return ScenarioKills([eater.pid], own.path, own.inode, trigger=eater.pid)


@requires(can_protect)
def other() -> ScenarioKills:
    """A small process allocates; its large neighbour is killed.

    The small one is protected: it may allocate again before the memory of the other is free.
    """
    protect = "open('/proc/self/oom_score_adj', 'w').write('-1000')\n"
    with own_memcg(_LIMIT) as own, ExitStack() as stack:
        big = stack.enter_context(run_python(f"{ENTER_CGROUP}{hold_memory(20)}{WAIT}", own.procs))
        _wait_until_ready(big)
        _set_score_adj(big, 1000)
        small = stack.enter_context(
            run_python(f"{ENTER_CGROUP}{protect}{hold_memory(16)}{WAIT}", own.procs)
        )
        wait_until_killed(big)
        _wait_until_ready(small)
        wait_until_completed([big.pid])  # the trigger is read after the kill
        return ScenarioKills([big.pid], own.path, own.inode, trigger=small.pid)


@requires(is_guest)
def sysrq() -> ScenarioKills:
    """A kill of the host by sysrq; the trigger is a kernel thread."""
    return _kill_by_sysrq()


@requires(is_guest, has_bpftrace)
def traced() -> ScenarioKills:
    """A kill by sysrq while bpftrace has a kprobe on oom_kill_process."""
    with start_bpftrace() as running:
        before = len(running.read_kills())
        kills = _kill_by_sysrq()
        return replace(kills, bpftrace_kills=running.wait_for_kills(before))


def _kill_by_sysrq() -> ScenarioKills:
    with own_memcg(128 << 20) as own:
        with run_python(f"{ENTER_CGROUP}{hold_memory(20)}{WAIT}", own.procs) as chosen:
            _wait_until_ready(chosen)
            _set_score_adj(chosen, 1000)
            Path("/proc/sysrq-trigger").write_text("f", encoding="ascii")
            wait_until_killed(chosen)
        return ScenarioKills([chosen.pid], own.path, own.inode, trigger=0, scope="host")


@requires(is_guest)
def host() -> ScenarioKills:
    """The host is out of memory: one process allocates more than it has."""
    return _exceed_host_memory(allocating=False)


@requires(is_guest)
def allocating() -> ScenarioKills:
    """The host is out of memory, with vm.oom_kill_allocating_task."""
    return _exceed_host_memory(allocating=True)


def _exceed_host_memory(*, allocating: bool) -> ScenarioKills:
    settings = {"overcommit_memory": "1", "oom_kill_allocating_task": str(int(allocating))}
    before = {name: Path("/proc/sys/vm", name).read_text(encoding="ascii") for name in settings}
    own_score = Path("/proc/self/oom_score_adj")
    own_score.write_text("-1000", encoding="ascii")
    try:
        for name, value in settings.items():
            Path("/proc/sys/vm", name).write_text(value, encoding="ascii")
        with (
            subprocess.Popen(["sleep", "600"]) as next_best,
            run_python(ALLOCATE_4_GIB, Cgroup().procs) as big,
        ):
            _set_score_adj(next_best, 900)
            wait_until_killed(big)
            pids = [big.pid]
            with suppress(subprocess.TimeoutExpired):
                # A dying victim may not have freed its memory yet when another process
                # allocates: then the kernel chooses a second victim.
                next_best.wait(0.5)
                pids.append(next_best.pid)
            next_best.kill()
        wait_until_completed(pids)  # the settings are read after the kill
        return ScenarioKills(pids, trigger=-1, scope="host")
    finally:
        own_score.write_text("0", encoding="ascii")
        for name, value in before.items():
            Path("/proc/sys/vm", name).write_text(value, encoding="ascii")


def namespaced() -> ScenarioKills:
    """The victim is the first process of a PID namespace of its own."""
    enter = 'echo $$ > "$0" && exec unshare --pid --fork tail /dev/zero'
    with own_memcg(_SMALL) as own, subprocess.Popen(["/bin/sh", "-c", enter, own.procs]) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        while not (pids := children.read_text(encoding="ascii").split()):
            assert outer.poll() is None
        outer.wait(60)
        return ScenarioKills([int(pids[0])], own.path, own.inode, trigger=int(pids[0]))


@requires(can_protect)
def nobody() -> ScenarioKills:
    """The only process of a cgroup is protected, and allocates by write(2), which may fail."""
    program = (
        "import errno, os\nopen('/proc/self/oom_score_adj', 'w').write('-1000')\n"
        "shared, page = os.memfd_create('x'), bytes(1 << 16)\n"
        "try:\n    while True:\n        os.write(shared, page)\n"
        # At once: each further allocation fails too, and prints a report.
        "except OSError as error:\n    os._exit(error.errno != errno.ENOMEM)\n"
    )
    with own_memcg(_LIMIT) as own, run_python(ENTER_CGROUP + program, own.procs) as trigger:
        assert trigger.wait(60) == 0
        return ScenarioKills([], own.path, own.inode, trigger=trigger.pid)


@requires(has_cgroup_v2)
def group() -> ScenarioKills:
    """With memory.oom.group, all three processes of a cgroup are killed."""
    with own_memcg(_SMALL) as own, ExitStack() as stack:
        (own.folder / "memory.oom.group").write_text("1", encoding="ascii")
        idle = [stack.enter_context(_run_idle(own)) for _ in range(2)]
        eater = fill_cgroup(own)
        for process in idle:
            wait_until_killed(process)
        pids = [*(process.pid for process in idle), eater]
        return ScenarioKills(pids, own.path, own.inode, trigger=eater)


def storm() -> ScenarioKills:
    """300 kills at full speed: more than the kernel prints reports for."""
    with ExitStack() as stack:
        storms = []
        for own in [stack.enter_context(own_memcg(_TINY)) for _ in range(_AT_ONCE)]:
            process = subprocess.Popen(
                [programs.program_path("kill_storm"), own.procs, str(STORM // _AT_ONCE)],
                stdout=subprocess.PIPE,
                text=True,
            )
            storms.append(stack.enter_context(process))
        outputs = [process.communicate(timeout=_STORM_S * slowness())[0] for process in storms]
        assert not any(process.returncode for process in storms)
    return ScenarioKills([int(pid) for output in outputs for pid in output.split()])


@contextmanager
def _run_idle(memcg: Cgroup) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            memcg.procs.write_text(str(process.pid), encoding="ascii")
            wait_until_asleep(process)
            yield process
        finally:
            process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def _set_score_adj(process: subprocess.Popen[bytes], score: int) -> None:
    Path(f"/proc/{process.pid}/oom_score_adj").write_text(str(score), encoding="ascii")


SCENARIOS: Final[dict[str, Callable[[], ScenarioKills]]] = {
    scenario.__name__: scenario
    for scenario in (
        *(memcg, nested, uncontrolled, threads, leaderless, hostile),
        *(other, sysrq, group, namespaced),
        *(nobody, traced, host, allocating),
        *edge_scenarios.ALL,
        edge_scenarios.skipped,
        *constraint_scenarios.ALL,
        # After this, the kernel leaves out reports for some seconds.
        storm,
        # And after this, there is no memory controller of cgroup v2 any more.
        constraint_scenarios.version_1,
    )
}
"""In the order in which they are played."""
