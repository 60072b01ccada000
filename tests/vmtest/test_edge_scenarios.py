"""What is particular to the kills of `hard_scenarios` and `bound_scenarios`.

What they share with every other kill is judged where those are.
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
from tests.vmtest.scenario_result import SOURCES, Played

KB = 1024
PAGE = 4096

_HELD_BACK = 1 << 20
"""More than a guest's CPUs can have counted of a process without having told it yet."""


def only(name: str) -> pytest.MarkDecorator:
    """A judgement of one scenario."""
    return pytest.mark.parametrize("name", [name])


def one(played: Played, source: str = "libbpf") -> OomKill:
    """The one event of the scenario."""
    (kill,) = played.told[source].kills
    return kill


@only("exiting")
def test_who_exits_anyway_is_marked_and_not_killed(played: Played) -> None:
    """The kernel neither logs it nor counts it, and there is no report of a decision."""
    assert played.counted == 0
    assert "Killed process" not in played.log
    assert "invoked oom-killer" not in played.log
    assert one(played).already_exiting


@pytest.mark.parametrize("name", ["exiting", "stuck"])
def test_the_reaper_is_told(played: Played) -> None:
    """It is woken, comes, and takes what the kernel's log says; the victim ends after that."""
    told, (victim,) = played.told["libbpf"], played.made.pids
    found = re.search(
        rf"oom_reaper: reaped process {victim} \(hold_in_exit\), now "
        r"anon-rss:(?P<anon>\d+)kB, file-rss:(?P<file>\d+)kB, shmem-rss:(?P<shmem>\d+)kB",
        played.log,
    )
    assert found
    left = sum(int(size) for size in found.groups()) * KB
    stages = [step.stage for step in told.reapings]
    assert stages == ["wake", "start", "finish"]
    assert {step.tgid for step in told.reapings} == {victim}
    (ended,) = told.exits
    times = [one(played).boottime_ns, *(step.boottime_ns for step in told.reapings)]
    assert all(before < after for before, after in pairwise([*times, ended.boottime_ns]))
    memory = one(played).memory
    assert memory is not None
    reaped = VictimOutcome(reaper=tuple(told.reapings)).reaped_bytes
    assert reaped is not None
    assert abs(memory.resident - reaped - left) <= _HELD_BACK


@only("stuck")
def test_a_victim_that_does_not_die_is_told_as_alive(played: Played) -> None:
    """Its state is that of proc_pid_stat(5): a tracer holds it."""
    assert played.made.state == "t"


@only("skipped")
@pytest.mark.parametrize("source", SOURCES)
def test_who_is_gone_before_the_kill_is_told_as_skipped(played: Played, source: str) -> None:
    """The kernel says so in its log, and counts nothing."""
    (chosen,) = played.made.skipped
    assert (
        f"OOM victim {chosen} (exit_on_oom) is already exiting. Skip killing the task" in played.log
    )
    assert played.counted == 0
    assert not played.logged
    told = one(played, source)
    assert told.skipped
    assert (told.victim.tgid, told.victim.comm) == (chosen, "exit_on_oom")
    assert not played.told[source].exits
    assert told.trigger is not None
    assert (told.trigger.tgid, told.trigger.tid) == (played.made.trigger, played.made.trigger_tid)
    assert told.decision is not None
    assert told.decision.memcg is not None
    assert told.decision.memcg.path == played.made.memcg


@only("sharing")
def test_who_shares_the_victims_memory_is_told_by_nobody(played: Played) -> None:
    """It was killed too, which the scenario saw: the kernel counts and logs one kill."""
    (other,) = played.made.untold
    assert played.counted == len(played.logged) == 1
    assert f"Killed process {other} " not in played.log
    assert other not in {kill.victim.tgid for kill in played.told["libbpf"].kills}


@pytest.mark.parametrize("name", ["exiting", "other_thread"])
def test_the_thread_that_asked_is_told(played: Played) -> None:
    """Not the first of its process, and by another name."""
    trigger = one(played).trigger
    assert trigger is not None
    assert (trigger.tgid, trigger.tid) == (played.made.trigger, played.made.trigger_tid)
    assert trigger.comm == "alloc-thread"


@only("nested_group")
def test_each_of_a_group_is_told_in_its_own_cgroup(played: Played) -> None:
    """All below the cgroup that dies as one, by whatever limit; threads are no kills of theirs."""
    told = played.told["libbpf"].kills
    by_pid = {pid: path for path, pids in played.made.memcgs.items() for pid in pids}
    assert {kill.victim.tgid: kill.memcg and kill.memcg.path for kill in told} == by_pid
    pod = next(iter(by_pid.values())).rpartition("/")[0]
    assert f"Tasks in {pod} are going to be killed due to memory.oom.group set" in played.log


@only("nested_group")
def test_all_of_a_group_stand_on_the_page_of_each(played: Played, tmp_path: Path) -> None:
    """Whichever of them is asked for, from the journal as the agent would have filled it."""
    told = played.told["libbpf"].kills
    with Store(tmp_path) as store:
        for kill in told:
            store.insert(kill, Snapshot(process_found=False))
    for kill in told:
        done = run_otel_oom("show", kill.uid, "--state-dir", tmp_path)
        assert done.code == 0, done
        title = f"Killed together (memory.oom.group): {len(told)}"
        group = done.out.partition(f"\n{title}\n")[2].partition("\n\n")[0]
        marked = [line.split()[1] for line in group.splitlines() if "▶" in line]
        assert marked == [kill.uid[:8]]
        assert all(member.uid[:8] in group for member in told)
        assert all((member.victim.comm or "?") in group for member in told)


@pytest.mark.parametrize(
    ("name", "constraint"), [("policy", "memory_policy"), ("cpuset", "cpuset")]
)
def test_what_bounded_the_choice_is_told(played: Played, constraint: str) -> None:
    """A node's memory is the host's: no cgroup's limit was hit."""
    decision = one(played).decision
    assert decision is not None
    assert decision.constraint == constraint
    assert f"CONSTRAINT_{constraint.upper()}" in played.log


@pytest.mark.parametrize(("name", "what"), [("swap", "swap"), ("version_1", "memory+swap")])
def test_swap_is_told_as_the_kernel_logs_it(played: Played, what: str) -> None:
    """That of the cgroup is, of version 1, together with its memory; of the victim see the rest."""
    found = re.search(
        rf"^{re.escape(what)}: usage (\d+)kB, limit (\d+)kB", played.log, re.MULTILINE
    )
    assert found
    usage, limit = (int(size) * KB for size in found.groups())
    decision = one(played).decision
    assert decision is not None
    assert decision.memcg_usage is not None
    assert abs((decision.memcg_usage.swap_usage or 0) - usage) <= _HELD_BACK
    assert decision.memcg_usage.swap_limit == limit
    assert any(pages * PAGE > _HELD_BACK for pages in played.swapped.values())


@pytest.mark.parametrize(
    ("name", "memory", "entry"),
    [
        ("memcg", "anonymous", "page_fault"),
        ("swap", "anonymous", "page_fault"),
        ("huge", "anonymous", "mmap"),
        ("socket", "socket", "sendto"),
    ],
)
def test_what_was_asked_for_is_told(played: Played, memory: str, entry: str) -> None:
    """By the names that this kernel has in its stack."""
    assert analyse_stack(one(played).stack) == StackAnalysis("memcg", memory, entry)


@only("huge")
def test_nobody_is_killed_for_a_huge_page(played: Played) -> None:
    """The kernel gives it up and asks for a single one, as its log says."""
    assert "order=0," in played.log
    decision = one(played).decision
    assert decision is not None
    assert decision.order == 0
