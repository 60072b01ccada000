"""Every kill on every supported kernel, held against that kernel's own log and counters.

Each judgement is made of both sources, as far as the source can know.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

import pytest
from msgspec import convert

from otel_oom.enrich.event import limit_scope
from otel_oom.enrich.stack_analysis import analyse_stack
from otel_oom.model.events import OomKill
from otel_oom.model.text import decode_bytes
from tests.vmtest.guest import Run
from tests.vmtest.programs import program
from tests.vmtest.scenario_result import SOURCES, Played, Told
from tests.vmtest.scenarios import SCENARIOS, STORM

KB = 1024
PAGE = 4096

_HELD_BACK = 1 << 20
"""More than a victim's threads, or a guest's CPUs, can have counted without having told it yet."""

_SIGNAL_NS = 10_000_000
"""Longer than from the signal to the mark, in the thread that sends the one and makes the other."""

MARKING = [name for name in SCENARIOS if name != "skipped"]
KILLING = [name for name in MARKING if name != "nobody"]

every = pytest.mark.parametrize("name", MARKING)
every_kill = pytest.mark.parametrize("name", KILLING)
by_both = pytest.mark.parametrize("source", SOURCES)
by_bpf = pytest.mark.parametrize("source", ["libbpf"])


@pytest.fixture
def told(played: Played, source: str) -> Told:
    """What that source told of the scenario."""
    return played.told[source]


@every
@by_both
def test_every_kill_is_told_once(played: Played, told: Told, run: Run) -> None:
    """Who was killed is in the log, in the counter and in what was captured, each once.

    In a group the kernel may kill, log and count its first choice a second time. Who exits by
    itself is marked, and neither logged nor counted.
    """
    unlogged = set(played.made.already_exiting)
    assert len(set(played.made.pids)) == len(played.made.pids)
    marked = [pid for pid in played.made.pids if told.source == "libbpf" or pid not in unlogged]
    assert sorted(kill.victim.tgid or 0 for kill in told.kills) == sorted(marked)
    killed = [kill for kill in told.kills if kill.victim.tgid not in unlogged]
    assert sorted({played.line(kill).pid for kill in killed}) == sorted(
        {line.pid for line in played.logged}
    )
    assert played.counted == len(played.logged)
    assert run.results["loss"][told.source] == dict.fromkeys(
        ("victims", "exits", "undecodable", "log_lines"), 0
    )


@pytest.mark.parametrize("name", ["storm"])
@by_both
def test_a_storm_is_as_many_events_as_kills(played: Played, told: Told) -> None:
    """300 kills are 300 lines of the log, a counter that rose by 300, and 300 events."""
    assert played.counted == len(played.logged) == STORM
    assert len({kill.victim.tgid for kill in told.kills}) == len(told.kills) == STORM
    assert len({kill.uid for kill in told.kills}) == STORM


@every
@by_both
def test_every_victims_end_is_told(played: Played, told: Told) -> None:
    """Each victim has one exit, by SIGKILL, after its mark; as soon as that is sent, it may run.

    Beside the log an end is told if the victim was still there when its line was read, and with
    what code where that can be had.
    """
    marked = {kill.victim.tgid: kill for kill in told.kills}
    exited = [exit_.tgid for exit_ in told.exits]
    assert len(set(exited)) == len(exited)
    if told.source == "libbpf":
        assert sorted(exited) == sorted(played.made.pids)
    for exit_ in told.exits:
        kill = marked[exit_.tgid]
        if exit_.exit_code is None:
            assert told.source == "kmsg"
        else:
            assert exit_.exit_code & 0x7F == signal.SIGKILL
        assert exit_.boottime_ns > kill.boottime_ns - _SIGNAL_NS
        assert kill.victim.start_boottime_ns in {None, exit_.start_boottime_ns}


@every_kill
@by_both
def test_a_victim_is_told_as_the_kernel_logs_it(played: Played, told: Told, run: Run) -> None:
    """Comm, uid, score and every size are those of the "Killed process" line.

    A victim that is not what asked runs on, and may tell what it held back between the mark and
    the line.
    """
    for kill in _logged(played, told):
        line, memory = played.line(kill), kill.memory
        assert kill.victim.comm == decode_bytes(_unescaped(line.comm))
        assert (kill.victim.uid, kill.victim.score_adj) == (line.uid, line.score_adj)
        assert memory is not None
        assert memory.total_vm == line.total_vm * KB
        runs_on = kill.trigger is None or kill.trigger.tid != kill.victim.tid
        lags = told.source == "libbpf" and (runs_on or run.kernel.log_sums)
        slack = _HELD_BACK if lags else 0
        assert abs(memory.anon - line.anon * KB) <= slack
        assert abs(memory.file - line.file * KB) <= slack
        assert memory.shmem is not None
        assert abs(memory.shmem - line.shmem * KB) <= slack
        assert memory.page_tables == line.pgtables * KB
        swapped = played.swapped.get(line.pid, 0) * PAGE
        if told.source == "libbpf":
            assert abs((memory.swap or 0) - swapped) <= slack
        else:
            assert memory.swap is None  # a report has it, yet not the line


@every_kill
@by_bpf
def test_nothing_of_a_victim_is_unknown(told: Told) -> None:
    """Whether the kernel's tracepoint passes a task or a number."""
    for kill in told.kills:
        victim = kill.victim
        assert None not in (victim.uid, victim.comm, victim.executable, kill.memory, kill.memcg)


@every_kill
@by_both
def test_a_decision_is_told_as_the_kernel_logs_it(played: Played, told: Told, run: Run) -> None:
    """Constraint, request, cgroup, usage and limit are those of the header that the log has of it.

    Of a storm it has few; what a group dies by is one decision.
    """
    logged = _logged(played, told)
    assert any(kill.victim.tgid in played.headers for kill in logged) or not logged
    for kill in logged:
        decision, header = kill.decision, played.headers.get(kill.victim.tgid or 0)
        hook = "/dev/kmsg" if told.source == "kmsg" else run.results["decision_source"]
        if hook == "/dev/kmsg" and header is None and not kill.incident:
            assert decision is None or decision.gfp_mask is None
            continue
        assert decision is not None
        assert decision.source == hook
        assert decision.message == played.line(kill).message
        # The log does not tell the cgroups of those that are killed along.
        known = kill.memcg is not None or played.made.scope == "host"
        assert known or (told.source == "kmsg" and kill.incident)
        scope = limit_scope(kill, analyse_stack(kill.stack))
        assert scope == (played.made.scope if known else None)
        assert (decision.memcg is None) == (played.made.scope == "host")
        if header is None:
            continue
        assert decision.constraint == header["constraint"].lower()
        assert (decision.memcg.path if decision.memcg else None) == header["hit"]
        assert decision.gfp_mask == int(header["mask"], 16)
        assert decision.gfp_flags == header["flags"]
        assert decision.order == int(header["order"])
        if decision.memcg_usage and header["limit"]:
            assert decision.memcg_usage.limit == int(header["limit"]) * KB
            assert decision.total_memory in {
                None,
                played.made.with_swap or decision.memcg_usage.limit,
            }
            assert abs((decision.memcg_usage.usage or 0) - int(header["usage"]) * KB) <= _HELD_BACK


@every_kill
@by_both
def test_the_cgroup_is_the_one_that_is_accounted(played: Played, told: Told) -> None:
    """Path and inode are those of the victim's memory cgroup; the log has the path, in a header."""
    for kill in told.kills:
        header = played.headers.get(kill.victim.tgid or 0)
        if told.source == "kmsg" and header is None:
            assert kill.memcg is None
            continue
        assert kill.memcg is not None
        assert not kill.memcg.path_cut
        assert kill.memcg.path == (header["memcg"] if header else kill.memcg.path)
        assert played.made.memcg in {None, kill.memcg.path}
        if told.source == "libbpf":
            assert played.made.memcg_id in {None, kill.memcg.id}


@every_kill
@by_both
def test_the_trigger_is_the_one_that_asked(played: Played, told: Told) -> None:
    """The process whose request for memory it was; at a kill by hand a thread of the kernel.

    The log names a thread: who is gone before its process was looked up is not told.
    """
    for kill in told.kills:
        header = played.headers.get(kill.victim.tgid or 0)
        if kill.trigger is None:
            assert told.source == "kmsg"
            assert header is None or int(header["asking"]) != kill.victim.tid
            continue
        if header:
            assert kill.trigger.tid == int(header["asking"])
        trigger = (kill.victim.tgid or 0) if played.made.trigger is None else played.made.trigger
        if trigger > 0:
            assert kill.trigger.tgid == trigger
        elif trigger == 0:
            assert kill.trigger.comm is not None
            assert kill.trigger.comm.startswith("kworker/")


@every_kill
@by_both
def test_what_died_is_told_as_killed_and_by_one_decision(
    played: Played, told: Told, name: str
) -> None:
    """The stack tells a kill from a victim that exits anyway, and a group from single kills."""
    exiting = {kill.victim.tgid for kill in told.kills if kill.already_exiting}
    assert exiting == (set(played.made.already_exiting) if told.source == "libbpf" else set())
    incidents = {kill.incident or kill.uid for kill in told.kills}
    assert len(incidents) == (1 if name in {"group", "nested_group"} else len(told.kills))


@every_kill
@by_bpf
def test_the_cgroups_own_limit_is_told_as_of_the_mark(played: Played, told: Told) -> None:
    """It needs no file of the cgroup's: where it is the limit that was hit, a report has both."""
    for kill in told.kills:
        assert kill.memcg is not None
        header = played.headers.get(kill.victim.tgid or 0)
        if not header or not header["limit"] or header["hit"] != kill.memcg.path:
            continue
        assert kill.memcg_usage is not None
        assert kill.memcg_usage.limit == int(header["limit"]) * KB
        assert abs((kill.memcg_usage.usage or 0) - int(header["usage"]) * KB) <= _HELD_BACK


@every_kill
@by_bpf
def test_a_kill_found_in_the_log_has_the_name_that_it_was_told_by(
    played: Played, told: Told
) -> None:
    """Uid and incident, time and process: it is the same event, should the first be forgotten."""

    def named(kills: Iterable[OomKill]) -> set[tuple[str | int | None, ...]]:
        return {
            (
                each.uid,
                each.incident,
                each.boottime_ns,
                each.victim.tgid,
                each.victim.start_boottime_ns,
            )
            for each in kills
        }

    found = named(kill for kill in played.found if kill.victim.tgid in played.made.pids)
    assert found == named(_logged(played, told))


@every_kill
@by_both
def test_a_victims_own_pid_is_told(told: Told, name: str) -> None:
    """In a PID namespace of its own it is 1; in the first one it is the same.

    Beside the log it is /proc that tells, if the victim is still there.
    """
    for kill in told.kills:
        own = 1 if name == "namespaced" else kill.victim.tgid
        assert kill.victim.namespaced_pid == own or (
            told.source == "kmsg" and kill.victim.namespaced_pid is None
        )


@every
@by_both
def test_a_search_in_vain_is_told_as_such(played: Played, told: Told, name: str) -> None:
    """When the kernel may kill nobody it says so in its log, and nothing is told as killed."""
    if name == "nobody":
        assert told.in_vain
    elif name not in {"other", "exiting", "other_thread"}:
        # Who is spared there may ask once more before the other is gone.
        assert not told.in_vain
    for event in told.in_vain:
        assert "Out of memory and no killable processes" in played.log
        # The log names a thread, and who asked in vain may be gone when that is read.
        if event.trigger is not None or told.source == "libbpf":
            assert event.trigger is not None
            assert event.trigger.tgid == played.made.trigger
        assert event.decision is not None
        assert event.decision.memcg is not None
        assert event.decision.memcg.path == played.made.memcg
        if told.source == "libbpf":
            assert event.decision.memcg.id == played.made.memcg_id


@every_kill
@by_bpf
def test_the_executable_is_the_victims(told: Told) -> None:
    """It is a path to a file that is there, here as in the guest."""
    for kill in told.kills:
        assert kill.victim.executable is not None
        assert kill.victim.executable.startswith("/")
        name = kill.victim.executable.rpartition("/")[2]
        assert name.startswith(("python", "tail", "sleep")) or program(name).exists()


def _logged(played: Played, told: Told) -> list[OomKill]:
    """The kills that have a line in the log."""
    return [kill for kill in told.kills if kill.victim.tgid not in played.made.already_exiting]


@pytest.mark.guest_only
def test_a_kill_without_a_process_that_captures_is_told_later(run: Run) -> None:
    """Pinned programs record it, its decision and its end; the next process tells it as late."""
    told = run.results["unattended"]
    kills = [convert(kill, OomKill) for kill in told["kills"]]
    assert [kill.victim.tgid for kill in kills] == told["made"]["pids"]
    assert [exit_["tgid"] for exit_ in told["exits"]] == told["made"]["pids"]
    (kill,), (line,) = kills, told["logged"]
    assert kill.capture.recovered
    assert kill.memory is not None
    assert kill.memory.page_tables == line["pgtables"] * KB
    assert kill.decision is not None
    assert kill.decision.source == run.results["decision_source"]
    assert {"sched_process_exit", "oom_kill_process_fentry"} <= set(told["pinned"])


def _unescaped(comm: str) -> bytes:
    r"""A name's bytes: /dev/kmsg has ``\xNN`` for what does not print, and for a backslash."""
    return re.sub(
        rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), comm.encode("ascii")
    )
