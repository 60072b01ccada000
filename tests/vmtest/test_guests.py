"""Every kill on every supported kernel, compared with that kernel's own log and counters.

Each check is made of both sources, as far as the source can know.
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
from tests.vmtest.guest import GuestRun
from tests.vmtest.programs import program_path
from tests.vmtest.scenario_result import SOURCES, ScenarioResult, SourceEvents
from tests.vmtest.scenarios import SCENARIOS, STORM

KB = 1024
PAGE = 4096

_SLACK = 1 << 20
"""More than a victim's threads, or a guest's CPUs, can count before it is visible."""

_SIGNAL_NS = 10_000_000
"""Longer than the time between signal and mark, which one thread makes."""

MARKING = [name for name in SCENARIOS if name != "skipped"]
KILLING = [name for name in MARKING if name != "nobody"]

every = pytest.mark.parametrize("scenario", MARKING)
every_kill = pytest.mark.parametrize("scenario", KILLING)
by_both = pytest.mark.parametrize("source", SOURCES)
by_bpf = pytest.mark.parametrize("source", ["libbpf"])


@pytest.fixture
def events(result: ScenarioResult, source: str) -> SourceEvents:
    """Return the events of that source."""
    return result.events[source]


@every
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
    assert guest_run.results["lost"][events.source] == dict.fromkeys(
        ("victims", "exits", "undecodable", "log_lines"), 0
    )


@pytest.mark.parametrize("scenario", ["storm"])
@by_both
def test_each_kill_of_a_storm_is_captured(result: ScenarioResult, events: SourceEvents) -> None:
    """300 kills are 300 lines of the log, a counter that rose by 300, and 300 events."""
    assert result.counted == len(result.killed_lines) == STORM
    assert len({kill.victim.tgid for kill in events.kills}) == len(events.kills) == STORM
    assert len({kill.uid for kill in events.kills}) == STORM


@every
@by_both
def test_each_victims_exit_is_captured(result: ScenarioResult, events: SourceEvents) -> None:
    """One exit, by SIGKILL, after the mark; the victim may run as soon as the signal is sent.

    Beside the log an exit is captured if the victim still existed when its line was read.
    """
    marked = {kill.victim.tgid: kill for kill in events.kills}
    exited = [exit_.tgid for exit_ in events.exits]
    assert len(set(exited)) == len(exited)
    if events.source == "libbpf":
        assert sorted(exited) == sorted(result.made.pids)
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
    for kill in _logged_kills(result, events):
        line, memory = result.line(kill), kill.memory
        assert kill.victim.comm == decode_bytes(_unescape(line.comm))
        assert (kill.victim.uid, kill.victim.score_adj) == (line.uid, line.score_adj)
        assert memory is not None
        assert memory.total_vm == line.total_vm * KB
        runs_on = kill.trigger is None or kill.trigger.tid != kill.victim.tid
        lags = events.source == "libbpf" and (runs_on or guest_run.kernel.log_sums)
        slack = _SLACK if lags else 0
        assert abs(memory.anon - line.anon * KB) <= slack
        assert abs(memory.file - line.file * KB) <= slack
        assert memory.shmem is not None
        assert abs(memory.shmem - line.shmem * KB) <= slack
        assert memory.page_tables == line.pgtables * KB
        swapped = result.swapped.get(line.pid, 0) * PAGE
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
def test_a_decision_has_the_values_of_its_log_header(
    result: ScenarioResult, events: SourceEvents, guest_run: GuestRun
) -> None:
    """Constraint, request, cgroup, usage and limit.

    The log has few headers of a storm; a group has one decision.
    """
    logged = _logged_kills(result, events)
    assert any(kill.victim.tgid in result.headers for kill in logged) or not logged
    for kill in logged:
        decision, header = kill.decision, result.headers.get(kill.victim.tgid or 0)
        hook = "/dev/kmsg" if events.source == "kmsg" else guest_run.results["decision_source"]
        if hook == "/dev/kmsg" and header is None and not kill.incident:
            assert decision is None or decision.gfp_mask is None
            continue
        assert decision is not None
        assert decision.source == hook
        assert decision.message == result.line(kill).message
        # The log lacks the cgroups of further victims of a group.
        known = kill.memcg is not None or result.made.scope == "host"
        assert known or (events.source == "kmsg" and kill.incident)
        scope = limit_scope(kill, analyse_stack(kill.stack))
        assert scope == (result.made.scope if known else None)
        assert (decision.memcg is None) == (result.made.scope == "host")
        if header is None:
            continue
        assert decision.constraint == header["constraint"].lower()
        assert (decision.memcg.path if decision.memcg else None) == header["limit_memcg"]
        assert decision.gfp_mask == int(header["mask"], 16)
        assert decision.gfp_flags == header["flags"]
        assert decision.order == int(header["order"])
        if decision.memcg_usage and header["limit"]:
            assert decision.memcg_usage.limit == int(header["limit"]) * KB
            assert decision.total_memory in {
                None,
                result.made.memory_and_swap_limit or decision.memcg_usage.limit,
            }
            assert abs((decision.memcg_usage.usage or 0) - int(header["usage"]) * KB) <= _SLACK


@every_kill
@by_both
def test_the_cgroup_is_the_victims_memory_cgroup(
    result: ScenarioResult, events: SourceEvents
) -> None:
    """Path and inode; the log has the path, in a header."""
    for kill in events.kills:
        header = result.headers.get(kill.victim.tgid or 0)
        if events.source == "kmsg" and header is None:
            assert kill.memcg is None
            continue
        assert kill.memcg is not None
        assert not kill.memcg.path_cut
        assert kill.memcg.path == (header["memcg"] if header else kill.memcg.path)
        assert result.made.memcg in {None, kill.memcg.path}
        if events.source == "libbpf":
            assert result.made.memcg_id in {None, kill.memcg.id}


@every_kill
@by_both
def test_the_trigger_is_the_allocating_process(
    result: ScenarioResult, events: SourceEvents
) -> None:
    """With sysrq it is a kernel thread.

    The log names a thread: one that is gone before its process is looked up has no trigger.
    """
    for kill in events.kills:
        header = result.headers.get(kill.victim.tgid or 0)
        if kill.trigger is None:
            assert events.source == "kmsg"
            assert header is None or int(header["trigger"]) != kill.victim.tid
            continue
        if header:
            assert kill.trigger.tid == int(header["trigger"])
        trigger = (kill.victim.tgid or 0) if result.made.trigger is None else result.made.trigger
        if trigger > 0:
            assert kill.trigger.tgid == trigger
        elif trigger == 0:
            assert kill.trigger.comm is not None
            assert kill.trigger.comm.startswith("kworker/")


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
def test_the_cgroups_limit_and_usage_are_those_at_the_mark(
    result: ScenarioResult, events: SourceEvents
) -> None:
    """Without a file of the cgroup; where its limit was reached, a report has both."""
    for kill in events.kills:
        assert kill.memcg is not None
        header = result.headers.get(kill.victim.tgid or 0)
        if not header or not header["limit"] or header["limit_memcg"] != kill.memcg.path:
            continue
        assert kill.memcg_usage is not None
        assert kill.memcg_usage.limit == int(header["limit"]) * KB
        assert abs((kill.memcg_usage.usage or 0) - int(header["usage"]) * KB) <= _SLACK


@every_kill
@by_bpf
def test_a_kill_recovered_from_the_log_has_the_same_identity(
    result: ScenarioResult, events: SourceEvents
) -> None:
    """Uid and incident, time and process: it is the same event after the store is lost."""

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

    found = named(kill for kill in result.recovered if kill.victim.tgid in result.made.pids)
    assert found == named(_logged_kills(result, events))


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


@every
@by_both
def test_a_search_without_a_victim_is_an_event(
    result: ScenarioResult, events: SourceEvents, scenario: str
) -> None:
    """When the kernel may kill no process it logs that, and nothing is captured as killed."""
    if scenario == "nobody":
        assert events.no_victims
    elif scenario not in {"other", "exiting", "other_thread"}:
        # The protected process may allocate again there before the other is gone.
        assert not events.no_victims
    for event in events.no_victims:
        assert "Out of memory and no killable processes" in result.log
        # The log names a thread, which may be gone when its line is read.
        if event.trigger is not None or events.source == "libbpf":
            assert event.trigger is not None
            assert event.trigger.tgid == result.made.trigger
        assert event.decision is not None
        assert event.decision.memcg is not None
        assert event.decision.memcg.path == result.made.memcg
        if events.source == "libbpf":
            assert event.decision.memcg.id == result.made.memcg_id


@every_kill
@by_bpf
def test_the_executable_is_a_file_of_the_victim(events: SourceEvents) -> None:
    """On the host as in the guest."""
    for kill in events.kills:
        assert kill.victim.executable is not None
        assert kill.victim.executable.startswith("/")
        name = kill.victim.executable.rpartition("/")[2]
        assert name.startswith(("python", "tail", "sleep")) or program_path(name).exists()


def _logged_kills(result: ScenarioResult, events: SourceEvents) -> list[OomKill]:
    """Return the kills that have a line in the log."""
    return [kill for kill in events.kills if kill.victim.tgid not in result.made.already_exiting]


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
    assert {"sched_process_exit", "oom_kill_process_fentry"} <= set(results["pinned"])


def _unescape(comm: str) -> bytes:
    r"""Return the bytes of a name: /dev/kmsg has ``\xNN`` for other bytes and for backslashes."""
    return re.sub(
        rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), comm.encode("ascii")
    )
