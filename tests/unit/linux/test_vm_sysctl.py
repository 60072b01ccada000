"""What the kernel's settings mean for who is killed: one sentence each, and only what matters."""

from __future__ import annotations

import pytest

from otel_oom.linux.vm_sysctl import SettingEffect, describe_settings

GIB = 1 << 30
HOST = {"total": 8 * GIB, "swap_total": 0, "commit_limit": 4 * GIB, "committed": 3 * GIB}
USUAL = {
    "panic_on_oom": 0,
    "oom_kill_allocating_task": 0,
    "overcommit_memory": 0,
    "overcommit_ratio": 50,
    "oom_dump_tasks": 1,
    "min_free_kbytes": 65536,
    "swappiness": 60,
}


def told(**changes: int) -> dict[str, SettingEffect]:
    """What is told of the usual settings with these changes, by name."""
    return {one.name: one for one in describe_settings({**USUAL, **changes}, HOST)}


def test_the_usual_settings_are_told_in_few_words() -> None:
    """What nobody has changed and what has no bearing is left out; nothing is to be done."""
    found = told()
    assert list(found) == [
        *("vm.panic_on_oom", "vm.oom_kill_allocating_task", "vm.overcommit_memory", "swap")
    ]
    assert not any(one.advice for one in found.values())


@pytest.mark.parametrize(("value", "says"), [(1, "only for a limit"), (2, "cgroup's limit too")])
def test_a_host_that_panics_is_advised(value: int, says: str) -> None:
    """Which kills are left, and the command that changes it."""
    found = told(panic_on_oom=value)["vm.panic_on_oom"]
    assert says in found.sentence
    assert "sysctl vm.panic_on_oom=0" in found.advice


def test_whoever_asks_is_killed_on_the_host_and_not_in_a_cgroup() -> None:
    """As out_of_memory() has it."""
    sentence = told(oom_kill_allocating_task=1)["vm.oom_kill_allocating_task"].sentence
    assert "the allocating task, however small" in sentence
    assert "in a cgroup the one with the highest oom_score" in sentence


def test_strict_accounting_is_told_with_its_numbers() -> None:
    """malloc() fails before anybody is killed."""
    sentence = told(overcommit_memory=2)["vm.overcommit_memory"].sentence
    assert "4.0 GiB (3.0 GiB of it are committed)" in sentence
    assert "malloc() fails" in sentence


def test_a_large_reserve_and_a_log_without_processes_are_told() -> None:
    """Both only where they bear on a kill."""
    assert (
        "512.0 MiB of the host's 8.0 GiB"
        in told(min_free_kbytes=524_288)["vm.min_free_kbytes"].sentence
    )
    assert "vm.oom_dump_tasks" in told(oom_dump_tasks=0)


def test_swap_with_how_much_of_it_is_used() -> None:
    """And swappiness where it all but switches it off."""
    host = {**HOST, "swap_total": 2 * GIB, "swap_free": GIB}
    (swap,) = (one for one in describe_settings({"swappiness": 0}, host) if one.name == "swap")
    assert swap.value == "1.0 GiB of 2.0 GiB used"
    assert "vm.swappiness=0" in swap.sentence


def test_of_what_is_not_known_nothing_is_said() -> None:
    """No setting is made up."""
    assert list(describe_settings({}, {})) == []
