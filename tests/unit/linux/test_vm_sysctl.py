"""The effects of vm settings on OOM kills."""

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


def effects(**changes: int) -> dict[str, SettingEffect]:
    """Return the effects of the default settings with these changes, by name."""
    return {one.name: one for one in describe_settings({**USUAL, **changes}, HOST)}


def test_default_settings_have_few_effects_and_no_advice() -> None:
    found = effects()
    assert list(found) == [
        *("vm.panic_on_oom", "vm.oom_kill_allocating_task", "vm.overcommit_memory", "swap")
    ]
    assert not any(one.advice for one in found.values())


@pytest.mark.parametrize(("value", "says"), [(1, "only for a limit"), (2, "cgroup's limit too")])
def test_a_panic_has_advice(value: int, says: str) -> None:
    """The remaining kills, and the command that enables them all."""
    found = effects(panic_on_oom=value)["vm.panic_on_oom"]
    assert says in found.sentence
    assert "sysctl vm.panic_on_oom=0" in found.advice


def test_the_allocating_task_is_killed_on_the_host_only() -> None:
    """As in out_of_memory()."""
    sentence = effects(oom_kill_allocating_task=1)["vm.oom_kill_allocating_task"].sentence
    assert "the allocating task, however small" in sentence
    assert "in a cgroup the one with the highest oom_score" in sentence


def test_strict_accounting_has_its_numbers() -> None:
    sentence = effects(overcommit_memory=2)["vm.overcommit_memory"].sentence
    assert "4.0 GiB (3.0 GiB of it are committed)" in sentence
    assert "malloc() fails" in sentence


def test_a_large_reserve_and_a_log_without_tasks_have_effects() -> None:
    assert (
        "512.0 MiB of the host's 8.0 GiB"
        in effects(min_free_kbytes=524_288)["vm.min_free_kbytes"].sentence
    )
    assert "vm.oom_dump_tasks" in effects(oom_dump_tasks=0)


def test_swap_with_its_usage() -> None:
    host = {**HOST, "swap_total": 2 * GIB, "swap_free": GIB}
    (swap,) = (one for one in describe_settings({"swappiness": 0}, host) if one.name == "swap")
    assert swap.value == "1.0 GiB of 2.0 GiB used"
    assert "vm.swappiness=0" in swap.sentence


def test_unknown_settings_have_no_effects() -> None:
    assert list(describe_settings({}, {})) == []
