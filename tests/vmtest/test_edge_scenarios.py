"""The special outcomes of the edge and constraint scenarios.

`test_guests` checks what they share with all kills.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from otel_oom.enrich.stack_analysis import StackAnalysis, analyse_stack
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store
from tests.testlib.command import run_otel_oom
from tests.vmtest.scenario_result import SOURCES, ScenarioResult

KB = 1024


def only_scenario(name: str) -> pytest.MarkDecorator:
    """Parametrize a test with one scenario."""
    return pytest.mark.parametrize("scenario", [name])


def only_kill(result: ScenarioResult, source: str = "libbpf") -> OomKill:
    """Return the one kill of the scenario."""
    (kill,) = result.events[source].kills
    return kill


@only_scenario("exiting")
def test_an_exiting_process_is_marked_and_not_killed(result: ScenarioResult) -> None:
    """The kernel neither logs nor counts it, and prints no report of a decision."""
    assert result.counted == 0
    assert "Killed process" not in result.log
    assert "invoked oom-killer" not in result.log
    assert only_kill(result).already_exiting


@pytest.mark.parametrize("scenario", ["exiting", "stuck"])
def test_each_step_of_the_reaper_is_captured(result: ScenarioResult) -> None:
    """It is woken, starts, and frees as much as the kernel logs; the victim exits after that."""
    events, (victim,) = result.events["libbpf"], result.made.pids
    match = re.search(
        rf"oom_reaper: reaped process {victim} \(hold_in_exit\), now "
        r"anon-rss:(?P<anon>\d+)kB, file-rss:(?P<file>\d+)kB, shmem-rss:(?P<shmem>\d+)kB",
        result.log,
    )
    assert match
    left = sum(int(size) for size in match.groups()) * KB
    stages = [step.stage for step in events.reaper_steps]
    assert stages == ["wake", "start", "finish"]
    assert {step.tgid for step in events.reaper_steps} == {victim}
    (ended,) = events.exits
    times = [only_kill(result).boottime_ns, *(step.boottime_ns for step in events.reaper_steps)]
    assert all(before < after for before, after in pairwise([*times, ended.boottime_ns]))
    memory = only_kill(result).memory
    assert memory is not None
    reaped = VictimOutcome(reaper=tuple(events.reaper_steps)).reaped_bytes
    assert reaped is not None
    assert abs(memory.resident - reaped - left) <= result.slack_bytes


@only_scenario("stuck")
def test_a_victim_that_does_not_die_is_alive(result: ScenarioResult) -> None:
    """Its state is that of proc_pid_stat(5): a tracer holds it."""
    assert result.made.victim_state == "t"


@only_scenario("skipped")
@pytest.mark.parametrize("source", SOURCES)
def test_a_process_that_is_gone_before_the_kill_is_skipped(
    result: ScenarioResult, source: str
) -> None:
    """The kernel logs that, and counts nothing."""
    (chosen,) = result.made.skipped
    assert (
        f"OOM victim {chosen} (exit_on_oom) is already exiting. Skip killing the task" in result.log
    )
    assert result.counted == 0
    assert not result.killed_lines
    kill = only_kill(result, source)
    assert kill.skipped
    assert (kill.victim.tgid, kill.victim.comm) == (chosen, "exit_on_oom")
    assert not result.events[source].exits
    assert kill.trigger is not None
    assert (kill.trigger.tgid, kill.trigger.tid) == (result.made.trigger, result.made.trigger_tid)
    assert kill.decision is not None
    assert kill.decision.memcg is not None
    assert kill.decision.memcg.path == result.made.memcg


@only_scenario("sharing")
def test_a_process_that_shares_the_victims_memory_has_no_record(result: ScenarioResult) -> None:
    """The scenario saw it die, but the kernel counts and logs one kill."""
    (other,) = result.made.unmarked
    assert result.counted == len(result.killed_lines) == 1
    assert f"Killed process {other} " not in result.log
    assert other not in {kill.victim.tgid for kill in result.events["libbpf"].kills}


@pytest.mark.parametrize("scenario", ["exiting", "other_thread"])
def test_the_allocating_thread_is_the_trigger(result: ScenarioResult) -> None:
    """It is not the first of its process, and has another name."""
    trigger = only_kill(result).trigger
    assert trigger is not None
    assert (trigger.tgid, trigger.tid) == (result.made.trigger, result.made.trigger_tid)
    assert trigger.comm == "alloc-thread"


@only_scenario("nested_group")
def test_each_victim_of_a_group_has_its_own_cgroup(result: ScenarioResult) -> None:
    """In all cgroups below the one that dies as a group; threads are no kills."""
    kills = result.events["libbpf"].kills
    by_pid = {pid: path for path, pids in result.made.memcgs.items() for pid in pids}
    assert {kill.victim.tgid: kill.memcg and kill.memcg.path for kill in kills} == by_pid
    pod = next(iter(by_pid.values())).rpartition("/")[0]
    assert f"Tasks in {pod} are going to be killed due to memory.oom.group set" in result.log


@only_scenario("nested_group")
def test_the_page_of_each_victim_lists_the_group(result: ScenarioResult, tmp_path: Path) -> None:
    """From a store as the agent fills it."""
    kills = result.events["libbpf"].kills
    with Store(tmp_path) as store:
        for kill in kills:
            store.insert(kill, Snapshot(process_found=False))
    for kill in kills:
        done = run_otel_oom("show", kill.uid, "--state-dir", tmp_path)
        assert done.code == 0, done
        title = f"Killed together (memory.oom.group): {len(kills)}"
        group = done.out.partition(f"\n{title}\n")[2].partition("\n\n")[0]
        marked = [line.split()[1] for line in group.splitlines() if "▶" in line]
        assert marked == [kill.uid[:8]]
        assert all(member.uid[:8] in group for member in kills)
        assert all((member.victim.comm or "?") in group for member in kills)


@pytest.mark.parametrize(
    ("scenario", "constraint"), [("policy", "memory_policy"), ("cpuset", "cpuset")]
)
def test_the_constraint_of_the_choice_is_captured(result: ScenarioResult, constraint: str) -> None:
    """The memory of a node is the host's: no limit of a cgroup was reached."""
    decision = only_kill(result).decision
    assert decision is not None
    assert decision.constraint == constraint
    assert f"CONSTRAINT_{constraint.upper()}" in result.log


@pytest.mark.parametrize(("scenario", "what"), [("swap", "swap"), ("version_1", "memory+swap")])
def test_swap_is_that_of_the_kernel_log(result: ScenarioResult, what: str) -> None:
    """On v1 the cgroup's is together with its memory; `test_guests` checks the victim's."""
    match = re.search(
        rf"^{re.escape(what)}: usage (\d+)kB, limit (\d+)kB", result.log, re.MULTILINE
    )
    assert match
    usage, limit = (int(size) * KB for size in match.groups())
    decision = only_kill(result).decision
    assert decision is not None
    assert decision.memcg_usage is not None
    assert abs((decision.memcg_usage.swap_usage or 0) - usage) <= result.slack_bytes
    assert decision.memcg_usage.swap_limit == limit
    assert any(pages * result.page_bytes > result.slack_bytes for pages in result.swapped.values())


@pytest.mark.parametrize(
    ("scenario", "memory", "entry"),
    [
        ("memcg", "anonymous", "page_fault"),
        ("swap", "anonymous", "page_fault"),
        ("huge", "anonymous", "mmap"),
        ("socket", "socket", "sendto"),
    ],
)
def test_memory_type_and_entry_point_come_from_the_stack(
    result: ScenarioResult, memory: str, entry: str
) -> None:
    """By the names of this kernel's functions."""
    assert analyse_stack(only_kill(result).stack) == StackAnalysis("memcg", memory, entry)


@only_scenario("huge")
def test_nobody_is_killed_for_a_huge_page(result: ScenarioResult) -> None:
    """The kernel falls back to a single page, as its log shows."""
    assert "order=0," in result.log
    decision = only_kill(result).decision
    assert decision is not None
    assert decision.order == 0
