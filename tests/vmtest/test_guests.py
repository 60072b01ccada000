"""Every kill on every supported kernel, compared with that kernel's own log and counters.

Each check is made of both sources, as far as the source can know.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

import pytest
from msgspec import convert, to_builtins

from otel_oom.model.events import OomKill
from otel_oom.model.loss import LostEvents
from otel_oom.model.text import decode_bytes
from tests.vmtest.guest import GuestRun
from tests.vmtest.parametrize import by_both, by_bpf, every_kill, every_mark
from tests.vmtest.programs import program_path
from tests.vmtest.scenario_result import ScenarioResult, SourceEvents
from tests.vmtest.scenarios import STORM

KB = 1024

_SIGNAL_NS = 10_000_000
"""Longer than the time between signal and mark, which one thread makes."""


@every_mark
@by_both
def test_each_kill_is_captured_logged_and_counted_once(
    result: ScenarioResult, events: SourceEvents, guest_run: GuestRun
) -> None:
    """In a group the kernel may kill, log and count its first choice a second time.

    An exiting process is marked, and neither logged nor counted.
    """
    unlogged = set(result.made.already_exiting)
    assert len(set(result.made.pids)) == len(result.made.pids)
    marked = [pid for pid in result.made.pids if events.source == "libbpf" or pid not in unlogged]
    assert sorted(kill.victim.tgid or 0 for kill in events.kills) == sorted(marked)
    killed = [kill for kill in events.kills if kill.victim.tgid not in unlogged]
    assert sorted({result.line(kill).pid for kill in killed}) == sorted(
        {line.pid for line in result.killed_lines}
    )
    assert result.counted == len(result.killed_lines)
    lost = guest_run.results["lost"][events.source]
    assert lost == to_builtins(LostEvents(exits=lost["exits"]))
    skipped = guest_run.results["recursion_misses"].get("sched_process_exit", 0)
    assert lost["exits"] <= (skipped if events.source == "libbpf" else 0)


@pytest.mark.parametrize("scenario", ["storm"])
@by_both
def test_each_kill_of_a_storm_is_captured(result: ScenarioResult, events: SourceEvents) -> None:
    """300 kills are 300 lines of the log, a counter that rose by 300, and 300 events."""
    assert result.counted == len(result.killed_lines) == STORM
    assert len({kill.victim.tgid for kill in events.kills}) == len(events.kills) == STORM
    assert len({kill.uid for kill in events.kills}) == STORM


@every_mark
@by_both
def test_each_victims_exit_is_captured(
    result: ScenarioResult, events: SourceEvents, guest_run: GuestRun
) -> None:
    """One exit, by SIGKILL, after the mark; the victim may run as soon as the signal is sent.

    A kernel that runs programs of tracepoints with preemption skips one that another task has
    preempted on that CPU, and counts that (`recursion_misses`): so many exits can be missing.
    Beside the log an exit is captured if the victim still existed when its line was read.
    """
    marked = {kill.victim.tgid: kill for kill in events.kills}
    exited = [exit_.tgid for exit_ in events.exits]
    assert len(set(exited)) == len(exited)
    if events.source == "libbpf":
        missing = set(result.made.pids) - set(exited)
        assert set(exited) <= set(result.made.pids)
        assert len(missing) <= guest_run.results["recursion_misses"]["sched_process_exit"]
    for exit_ in events.exits:
        kill = marked[exit_.tgid]
        if exit_.exit_code is None:
            assert events.source == "kmsg"
        else:
            assert exit_.exit_code & 0x7F == signal.SIGKILL
        assert exit_.boottime_ns > kill.boottime_ns - _SIGNAL_NS
        assert kill.victim.start_boottime_ns in {None, exit_.start_boottime_ns}


@every_kill
@by_both
def test_a_victim_has_the_values_of_its_log_line(
    result: ScenarioResult, events: SourceEvents, guest_run: GuestRun
) -> None:
    """Comm, uid, score and every size.

    A victim that is not the trigger runs on, and may count more between the mark and the line.
    """
    for kill in result.logged_kills(events):
        line, memory = result.line(kill), kill.memory
        assert kill.victim.comm == decode_bytes(_unescape(line.comm))
        assert (kill.victim.uid, kill.victim.score_adj) == (line.uid, line.score_adj)
        assert memory is not None
        assert memory.total_vm == line.total_vm * KB
        runs_on = kill.trigger is None or kill.trigger.tid != kill.victim.tid
        lags = events.source == "libbpf" and (runs_on or guest_run.kernel.log_sums)
        slack = result.slack_bytes if lags else 0
        assert abs(memory.anon - line.anon * KB) <= slack
        assert abs(memory.file - line.file * KB) <= slack
        assert memory.shmem is not None
        assert abs(memory.shmem - line.shmem * KB) <= slack
        assert memory.page_tables == line.pgtables * KB
        swapped = result.swapped.get(line.pid, 0) * result.page_bytes
        if events.source == "libbpf":
            assert abs((memory.swap or 0) - swapped) <= slack
        else:
            assert memory.swap is None  # a report has it, yet not the line


@every_kill
@by_bpf
def test_bpf_knows_all_values_of_a_victim(events: SourceEvents) -> None:
    """Whether the kernel's tracepoint passes a task or a pid."""
    for kill in events.kills:
        victim = kill.victim
        assert None not in (victim.uid, victim.comm, victim.executable, kill.memory, kill.memcg)


@every_kill
@by_both
def test_exiting_victims_and_groups_are_recognized(
    result: ScenarioResult, events: SourceEvents, scenario: str
) -> None:
    """By the stack of the mark."""
    exiting = {kill.victim.tgid for kill in events.kills if kill.already_exiting}
    assert exiting == (set(result.made.already_exiting) if events.source == "libbpf" else set())
    incidents = {kill.incident or kill.uid for kill in events.kills}
    assert len(incidents) == (1 if scenario in {"group", "nested_group"} else len(events.kills))


@every_kill
@by_bpf
def test_a_kill_recovered_from_the_log_has_the_same_identity(
    result: ScenarioResult, events: SourceEvents
) -> None:
    """Uid and incident, time and process: it is the same event after the store is lost."""

    def named(kills: Iterable[OomKill]) -> set[tuple[str | int | None, ...]]:
        return {
            (
                kill.uid,
                kill.incident,
                kill.boottime_ns,
                kill.victim.tgid,
                kill.victim.start_boottime_ns,
            )
            for kill in kills
        }

    recovered = named(kill for kill in result.recovered if kill.victim.tgid in result.made.pids)
    assert recovered == named(result.logged_kills(events))


@every_kill
@by_both
def test_a_victim_has_its_namespaced_pid(events: SourceEvents, scenario: str) -> None:
    """1 in a PID namespace of its own, else its pid.

    Beside the log it comes from /proc, if the victim still exists.
    """
    for kill in events.kills:
        own = 1 if scenario == "namespaced" else kill.victim.tgid
        assert kill.victim.namespaced_pid == own or (
            events.source == "kmsg" and kill.victim.namespaced_pid is None
        )


@every_kill
@by_bpf
def test_the_executable_is_a_file_of_the_victim(events: SourceEvents) -> None:
    """On the host as in the guest."""
    for kill in events.kills:
        assert kill.victim.executable is not None
        assert kill.victim.executable.startswith("/")
        name = kill.victim.executable.rpartition("/")[2]
        assert name.startswith(("python", "tail", "sleep")) or program_path(name).exists()


@pytest.mark.guest_only
def test_a_kill_without_a_process_is_captured_by_the_next_one(guest_run: GuestRun) -> None:
    """Pinned programs record it, its decision and its exit; it is marked as recovered."""
    results = guest_run.results["without_process"]
    events = convert(results["events"], SourceEvents)
    (pid,), (kill,), (exit_,) = results["made"]["pids"], events.kills, events.exits
    assert (kill.victim.tgid, exit_.tgid) == (pid, pid)
    (line,) = results["killed_lines"]
    assert kill.capture.recovered
    assert kill.memory is not None
    assert kill.memory.page_tables == line["pgtables"] * KB
    assert kill.decision is not None
    assert kill.decision.source == guest_run.results["decision_source"]
    hook = guest_run.results["decision_source"].partition("/")[0]
    assert {"sched_process_exit", f"oom_kill_process_{hook}"} <= set(results["pinned"])


@pytest.mark.guest_only
def test_one_holders_storm_leaves_space_in_the_ring_for_another(guest_run: GuestRun) -> None:
    """While nobody reads it."""
    assert guest_run.results["ring_share"] == ""


@pytest.mark.guest_only
def test_the_signal_of_a_daemon_is_recorded(guest_run: GuestRun) -> None:
    """With the memory that /proc shows a moment before."""
    recorded = guest_run.results["daemon_signal"]
    ((tgid, number, resident),) = recorded["signals"]
    assert (tgid, number) == (recorded["pid"], signal.SIGKILL)
    # Each processor keeps up to 32 pages of each counter to itself.
    assert abs(resident - recorded["resident"]) < 256 * recorded["page"]


def _unescape(comm: str) -> bytes:
    r"""Return the bytes of a name: /dev/kmsg has ``\xNN`` for other bytes and for backslashes."""
    return re.sub(
        rb"\\x([0-9a-f]{2})", lambda recovered: bytes([int(recovered[1], 16)]), comm.encode("ascii")
    )
