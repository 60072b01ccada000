"""Every kill on every supported kernel, held against that kernel's own log and counters."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

import pytest

from otel_oom.capture.decode import text
from otel_oom.enrich.limit import limit_scope
from otel_oom.enrich.origin import origin_of
from otel_oom.event import NoVictim, OomKill, VictimExit
from tests.guests.guest import Run
from tests.guests.scenarios import SCENARIOS, Made
from tests.support.kernel import Killed

KB = 1024

_HELD_BACK = 1 << 20
"""More than a victim's threads, or a guest's CPUs, can have counted without having told it yet."""

_HEADER = re.compile(
    r"oom-kill:constraint=CONSTRAINT_(?P<constraint>\w+),"
    r".*?,(?:global_oom|oom_memcg=(?P<hit>[^,]*)),task_memcg=(?P<memcg>[^,]*),task=.*,"
    r"pid=(?P<pid>\d+),uid="
)
_INVOKED = re.compile(
    r"invoked oom-killer: gfp_mask=(?P<mask>0x[0-9a-f]+)\((?P<flags>[^)]*)\), "
    r"order=(?P<order>-?\d+),"
)
_ASKING = re.compile(r"CPU: \d+ (?:UID: \d+ )?PID: (?P<asking>\d+) ")
_LIMIT = re.compile(r"memory: usage (?P<usage>\d+)kB, limit (?P<limit>\d+)kB, failcnt")

every = pytest.mark.parametrize("name", SCENARIOS)
every_kill = pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "nobody"])

OF_HOST = {"sysrq", "host", "allocating"}
"""The scenarios in which it is not a cgroup's limit that was hit."""

_SIGNAL_NS = 10_000_000
"""Longer than from the signal to the mark, in the thread that sends the one and makes the other."""


@dataclass(frozen=True)
class Played:
    """One scenario of one guest, as values."""

    made: Made
    kills: list[OomKill]
    exits: list[VictimExit]
    in_vain: list[NoVictim]
    logged: list[Killed]
    counted: int
    """By how much /proc/vmstat's oom_kill rose."""

    def line(self, kill: OomKill) -> Killed:
        """The first "Killed process" line of a kill; the kernel names a thread in it."""
        return next(line for line in self.logged if line.pid == kill.victim.tid)


@pytest.fixture
def played(run: Run, name: str) -> Played:
    """The scenario of that name, as it went in the guest."""
    value = run.results["scenarios"][name]
    assert "failed" not in value, value["failed"]
    return Played(
        Made(**value["made"]),
        [OomKill.from_json(kill) for kill in value["kills"]],
        [VictimExit(**exit_) for exit_ in value["exits"]],
        [NoVictim.from_json(event) for event in value["in_vain"]],
        [Killed(**line) for line in value["logged"]],
        value["counted"],
    )


@every
def test_every_kill_is_told_once(played: Played, run: Run) -> None:
    """Who was killed is in the log, in the counter and in what was captured, each once.

    In a group the kernel may kill, log and count its first choice a second time.
    """
    assert sorted(kill.victim.tgid for kill in played.kills) == sorted(played.made.pids)
    assert sorted({played.line(kill).pid for kill in played.kills}) == sorted(
        {line.pid for line in played.logged}
    )
    assert played.counted == len(played.logged)
    assert run.results["loss"] == dict.fromkeys(("victims", "exits", "unreadable", "lines"), 0)


@every
def test_every_victims_end_is_told(played: Played) -> None:
    """Each victim has one exit, by SIGKILL, after its mark; as soon as that is sent, it may run."""
    marked = {kill.victim.tgid: kill for kill in played.kills}
    assert sorted(exit_.tgid for exit_ in played.exits) == sorted(marked)
    for exit_ in played.exits:
        assert exit_.exit_code is not None
        assert exit_.exit_code & 0x7F == signal.SIGKILL
        assert exit_.boottime_ns > marked[exit_.tgid].boottime_ns - _SIGNAL_NS
        assert marked[exit_.tgid].victim.started_ns in {None, exit_.started_ns}


@every_kill
def test_a_victim_is_told_as_the_kernel_logs_it(played: Played, run: Run) -> None:
    """Comm, uid, score and every size are those of the "Killed process" line.

    A victim that is not what asked runs on, and may tell what it held back between the mark and
    the line.
    """
    for kill in played.kills:
        line, memory = played.line(kill), kill.memory
        assert kill.victim.comm == text(_unescaped(line.comm))
        assert (kill.victim.uid, kill.victim.score_adj) == (line.uid, line.score_adj)
        assert memory is not None
        assert memory.total_vm == line.total_vm * KB
        runs_on = kill.trigger is None or kill.trigger.tid != kill.victim.tid
        slack = _HELD_BACK if runs_on or run.kernel.log_sums else 0
        assert abs(memory.anon - line.anon * KB) <= slack
        assert abs(memory.file - line.file * KB) <= slack
        assert abs(memory.shmem - line.shmem * KB) <= slack
        assert memory.page_tables == line.pgtables * KB
        assert memory.swap == 0


@every_kill
def test_nothing_of_a_victim_is_unknown(played: Played) -> None:
    """Whether the kernel's tracepoint passes a task or a number."""
    for kill in played.kills:
        told = (kill.victim.uid, kill.victim.comm, kill.victim.executable, kill.memory, kill.memcg)
        assert None not in told


@every_kill
def test_a_decision_is_told_as_the_kernel_logs_it(played: Played, run: Run, name: str) -> None:
    """Constraint, request, cgroup, usage and limit are those of the header that the log has of it.

    Of a storm it has few; what a group dies by is one decision.
    """
    headers = _headers(run.log)
    assert any(kill.victim.tgid in headers for kill in played.kills)
    for kill in played.kills:
        decision, header = kill.decision, headers.get(kill.victim.tgid)
        assert decision is not None
        assert decision.hook == run.results["context"]
        scope = "host" if name in OF_HOST else "ancestor" if name == "nested" else "own"
        assert limit_scope(kill, origin_of(kill.stack)) == scope
        assert (decision.memcg is None) == (scope == "host")
        if header is None:
            continue
        assert kill.trigger is not None
        assert kill.trigger.tid == int(header["asking"])
        assert decision.constraint == header["constraint"].lower()
        assert (decision.memcg.path if decision.memcg else None) == header["hit"]
        assert decision.gfp_mask == int(header["mask"], 16)
        assert decision.gfp_flags == header["flags"]
        assert decision.order == int(header["order"])
        assert decision.message == played.line(kill).message
        if decision.limits and header["limit"]:
            assert decision.limits.limit == int(header["limit"]) * KB
            assert decision.capacity == decision.limits.limit
            assert abs((decision.limits.usage or 0) - int(header["usage"]) * KB) <= _HELD_BACK


def _headers(log: str) -> dict[int, dict[str, str]]:
    """What the log says of each decision, by the pid of whom it chose."""
    found: dict[int, dict[str, str]] = {}
    now: dict[str, str] = {}
    for line in log.splitlines():
        if begun := _INVOKED.search(line):
            now = {"limit": "", "usage": "", **begun.groupdict()}
        elif asking := _ASKING.search(line):
            now |= asking.groupdict()
        elif limit := _LIMIT.search(line):
            now |= limit.groupdict()
        elif chosen := _HEADER.search(line):
            found[int(chosen["pid"])] = now | chosen.groupdict()
            now = {}
    return {pid: header for pid, header in found.items() if "mask" in header}


@every_kill
def test_the_cgroup_is_the_one_that_is_accounted(played: Played, run: Run) -> None:
    """Path and inode are those of the victim's memory cgroup; the kernel's header has the path."""
    headers = {int(found["pid"]): found["memcg"] for found in _HEADER.finditer(run.log)}
    assert any(kill.victim.tgid in headers for kill in played.kills)
    for kill in played.kills:
        assert kill.memcg is not None
        assert not kill.memcg.path_cut
        assert kill.memcg.path == headers.get(kill.victim.tgid, kill.memcg.path)
        assert played.made.memcg in {None, kill.memcg.path}
        assert played.made.memcg_id in {None, kill.memcg.id}


@every_kill
def test_the_trigger_is_the_one_that_asked(played: Played) -> None:
    """The process whose request for memory it was; at a kill by hand a thread of the kernel."""
    for kill in played.kills:
        trigger = kill.victim.tgid if played.made.trigger is None else played.made.trigger
        assert kill.trigger is not None
        if trigger > 0:
            assert kill.trigger.tgid == trigger
        elif trigger == 0:
            assert kill.trigger.comm is not None
            assert kill.trigger.comm.startswith("kworker/")


@every_kill
def test_what_died_is_told_as_killed_and_by_one_decision(played: Played, name: str) -> None:
    """The stack tells a kill from a victim that exits anyway, and a group from single kills."""
    assert not [kill for kill in played.kills if kill.already_exiting]
    incidents = {kill.incident or kill.uid for kill in played.kills}
    assert len(incidents) == (1 if name == "group" else len(played.kills))


@every_kill
def test_a_victims_own_pid_is_told(played: Played, name: str) -> None:
    """In a PID namespace of its own it is 1; in the first one it is the same."""
    for kill in played.kills:
        assert kill.victim.ns_tgid == (1 if name == "namespaced" else kill.victim.tgid)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_search_in_vain_is_told_as_such(played: Played, run: Run, name: str) -> None:
    """When the kernel may kill nobody it says so in its log, and nothing is told as killed."""
    if name == "nobody":
        assert played.in_vain
    elif name != "other":  # who is spared there may ask once more before the other is gone
        assert not played.in_vain
    for event in played.in_vain:
        assert "Out of memory and no killable processes" in run.log
        assert event.trigger is not None
        assert event.trigger.tgid == played.made.trigger
        assert event.decision is not None
        assert event.decision.memcg is not None
        assert event.decision.memcg.path == played.made.memcg
        assert event.decision.memcg.id == played.made.memcg_id


@every_kill
def test_the_executable_is_the_victims(played: Played) -> None:
    """It is a path to a file that is there, here as in the guest."""
    for kill in played.kills:
        assert kill.victim.executable is not None
        assert kill.victim.executable.startswith("/")
        name = kill.victim.executable.rpartition("/")[2]
        assert name.startswith(("python", "tail", "hog", "sleep"))


def _unescaped(comm: str) -> bytes:
    r"""A name's bytes: /dev/kmsg has ``\xNN`` for what does not print, and for a backslash."""
    return re.sub(
        rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), comm.encode("ascii")
    )
