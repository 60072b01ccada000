"""Logs as people keep them: reports of other kernels, in part, in pieces, or doubled."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from otel_oom.enrich.stack_analysis import analyse_stack
from otel_oom.linux.containers.cgroup_id import containers_by_path
from otel_oom.linux.containers.pod_cgroup import find_pod_cgroup
from otel_oom.model.events import OomKill, Panic
from otel_oom.model.units import NS_PER_S
from tests.testlib.samples.replay_cases import FOLDER, SAVED, kills_of_case, replay_case

LIMIT = 104_857_600
STACKS = {
    "stack-arm32-new.log": ("oom_kill_process+0x23c", "do_page_fault+0xa8", 5),
    "stack-arm32-old.log": ("oom_kill_process+0x358", "__alloc_pages_nodemask+0xfc0", 3),
    "stack-ppc64.log": ("oom_kill_process+0x21c", "__alloc_pages_nodemask+0x1058", 3),
    "stack-riscv.log": ("oom_kill_process+0x11e", "__alloc_pages+0xa2e", 3),
    "stack-sparc64.log": ("oom_kill_process+0x1a4", "__alloc_pages+0xc80", 3),
}


def only_kill(name: str, folder: Path) -> OomKill:
    (kill,) = kills_of_case(name, folder)
    return kill


def limit_of(kill: OomKill) -> int | None:
    assert kill.decision is not None
    return kill.decision.memcg_usage.limit if kill.decision.memcg_usage else None


@pytest.mark.parametrize("name", STACKS)
def test_the_stack_of_another_architecture_is_read(name: str, tmp_path: Path) -> None:
    stack = only_kill(name, tmp_path).stack
    assert (stack[0], stack[-1], len(stack)) == STACKS[name]


def test_frames_that_are_all_uncertain_are_no_stack(tmp_path: Path) -> None:
    kill = only_kill("lean-old-frames.log", tmp_path)
    assert (kill.victim.tgid, kill.stack) == (4242, ())


def test_red_hat_7_decides_by_memcg_at_the_end_of_a_fault(tmp_path: Path) -> None:
    kill = only_kill("by-el7.log", tmp_path)
    analysis = analyse_stack(kill.stack)
    assert (analysis.origin, analysis.entry_point) == ("memcg", "page_fault")
    assert kill.decision is not None
    assert kill.decision.constraint == "memcg"


def test_members_of_a_group_have_its_cgroup(tmp_path: Path) -> None:
    kills = kills_of_case("group-cgroup.log", tmp_path)
    assert [kill.victim.tgid for kill in kills] == [4242, 4241, 4243]
    text = (FOLDER / "group-cgroup.log").read_text(encoding="ascii")
    group = text.partition("Tasks in ")[2].partition(" are going")[0]
    assert [kill.memcg.path if kill.memcg else None for kill in kills] == [group] * 3
    for kill in kills:
        container, pod = containers_by_path(kill).victim, find_pod_cgroup(group)
        assert container is not None
        assert container.id == "a" * 64
        assert pod is not None
        assert pod.uid == "11111111-2222-3333-4444-555555555555"


def test_a_kernel_before_4_19_panics_without_a_killable_process(tmp_path: Path) -> None:
    (panic,) = replay_case("panic-nokillable.log", tmp_path)
    assert isinstance(panic, Panic)
    assert panic.message == "Out of memory and no killable processes..."
    assert (panic.tid, panic.comm, panic.stack) == (1, "init", ("out_of_memory+0x452",))


def test_red_hat_5_prints_the_user_and_no_sizes(tmp_path: Path) -> None:
    kill = only_kill("el5-uid.log", tmp_path)
    assert (kill.victim.tgid, kill.victim.comm, kill.victim.uid) == (3508, "httpd", 48)


def test_the_choice_alone_is_a_kill(tmp_path: Path) -> None:
    kill = only_kill("choice-alone.log", tmp_path)
    assert (kill.victim.tgid, kill.victim.comm, kill.victim.uid) == (4242, "worker", 0)
    assert (kill.skipped, kill.memory) == (False, None)
    assert kill.memcg is not None
    assert kill.memcg.path == "/box"
    assert kill.decision is not None
    assert kill.decision.constraint == "none"


def test_a_report_without_its_beginning_has_limit_and_table(tmp_path: Path) -> None:
    kill = only_kill("head-cut.log", tmp_path)
    assert limit_of(kill) == LIMIT
    assert kill.tasks is not None
    assert [task.tgid for task in kill.tasks.largest] == [4242, 4200]
    assert kill.trigger is None


def test_doubled_lines_are_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kill = only_kill("doubled.log", tmp_path)
    assert kill.trigger is not None
    assert kill.trigger.tgid == 4242
    assert limit_of(kill) == LIMIT
    assert len(kill.stack) == 9
    assert kill.tasks is not None
    assert (kill.tasks.count, len(kill.tasks.largest)) == (2, 2)
    assert (kill.original or "").count("invoked oom-killer") == 1
    assert capsys.readouterr().err.startswith("1 kills in ")


def test_a_choice_in_pieces_between_other_lines_is_one(tmp_path: Path) -> None:
    kill = only_kill("pieces.log", tmp_path)
    assert kill.decision is not None
    assert kill.decision.memcg is not None
    assert (kill.decision.memcg.path, kill.memcg and kill.memcg.path) == ("/box", "/box")
    assert kill.decision.constraint == "memcg"


def test_the_table_is_of_the_moment_of_the_kill(tmp_path: Path) -> None:
    """Without times since the boot, too."""
    kill = only_kill("candidates-after.log", tmp_path)
    assert kill.tasks is not None
    assert abs(kill.tasks.boottime_ns - kill.boottime_ns) < NS_PER_S


def test_a_prefix_is_no_part_of_the_message(tmp_path: Path) -> None:
    first, second = kills_of_case("message-prefix.log", tmp_path)
    assert first.decision is not None
    assert second.decision is not None
    assert first.decision.message == "Memory cgroup out of memory"
    assert first.decision.constraint == "memcg"
    assert second.decision.message == "Out of memory"
    apart_s = (second.time_unix_ns - first.time_unix_ns) / NS_PER_S
    assert apart_s == pytest.approx(625328.156297 - 57539.949044)
    assert second.time_unix_ns // NS_PER_S == datetime.timestamp(SAVED.astimezone(UTC))
