"""BPF and the kernel log capture the same kill with equal fields."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from msgspec import to_builtins

from otel_oom.model.events import OomKill
from tests.vmtest.guest import GuestRun
from tests.vmtest.scenario_result import ScenarioResult
from tests.vmtest.scenarios import SCENARIOS

_SOURCE_FIELDS: Final = (
    # Of the source itself, or of the instant at which it looks.
    *("capture.", "decision.source", "boottime_ns", "time_unix_ns", "incident"),
    *("stack", "user_stack"),  # the one see below; the log has none of user space
    *("original", "tasks"),  # where both have them, one was early: see test_logs.py
)

# /proc has the start in clock ticks, rounded down.
_TICK_NS: Final = 10**9 // os.sysconf("SC_CLK_TCK")
_STARTS: Final = ("victim.start_boottime_ns", "trigger.start_boottime_ns")
# A running process counts more before the line is printed; likewise a cgroup.
_COUNTED: Final = (
    *("memory.anon", "memory.file", "memory.shmem"),
    *("decision.memcg_usage.usage", "decision.memcg_usage.swap_usage"),
)

_WITHOUT_BPF_LOOP: Final = {"5.10"}
"""It is in the kernel from 5.17 on."""

_RIP: Final = re.compile(r"RIP: 0010:(\S+\+0x[0-9a-f]+)/")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_both_sources_have_equal_fields(result: ScenarioResult) -> None:
    """Each field that both have; and both group the kills by incident alike."""
    slack = dict.fromkeys(_STARTS, _TICK_NS) | dict.fromkeys(_COUNTED, result.slack_bytes)
    logged = {kill.victim.tgid or 0: kill for kill in result.events["kmsg"].kills}
    captured = {kill.victim.tgid or 0: kill for kill in result.events["libbpf"].kills}
    assert set(captured) - set(logged) == set(result.made.already_exiting)
    for tgid, kill in logged.items():
        logged_fields, captured_fields = (
            dict(_flatten(to_builtins(kill))),
            dict(_flatten(to_builtins(captured[tgid]))),
        )
        both = {
            name
            for name in logged_fields.keys() & captured_fields.keys()
            if not name.startswith(_SOURCE_FIELDS)
        }
        assert {"victim.tgid", "victim.tid", "victim.comm"} <= both
        if kill.skipped:
            # It frees its memory while the report is being printed.
            both.discard("decision.memcg_usage.usage")
        different = {
            name: (logged_fields[name], captured_fields[name])
            for name in both
            if logged_fields[name] != captured_fields[name]
            and (
                name not in slack or abs(logged_fields[name] - captured_fields[name]) > slack[name]
            )
        }
        assert not different
    assert _pids_by_incident(logged) == _pids_by_incident({tgid: captured[tgid] for tgid in logged})


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_both_sources_have_the_same_stack(result: ScenarioResult) -> None:
    """Frames are equal below the decision itself, which in a report is the printing of it.

    Where the fault was in the kernel, the log has that frame among the registers.
    """
    captured = {kill.victim.tgid or 0: kill for kill in result.events["libbpf"].kills}
    in_registers = set(_RIP.findall(result.log))
    for kill in result.events["kmsg"].kills:
        if kill.stack:
            logged, whole = (
                _stack_below_decision(kill),
                _stack_below_decision(captured[kill.victim.tgid or 0]),
            )
            assert [frame for frame in logged if frame not in in_registers] == [
                frame for frame in whole if frame not in in_registers
            ]


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "storm"])
def test_the_mappings_add_up_to_the_address_space(
    result: ScenarioResult, guest_run: GuestRun
) -> None:
    """To the kernel's own count of its pages, at the same mark.

    A storm may overwrite the tables of earlier victims before they are read.
    """
    for kill in result.events["libbpf"].kills:
        if kill.memory is None or guest_run.kernel.name in _WITHOUT_BPF_LOOP:
            assert kill.mappings is None
        else:
            assert kill.mappings is not None
            sizes = sum(mapping.size for mapping in kill.mappings.largest)
            assert (sizes, kill.mappings.skipped) == (kill.memory.total_vm, 0)


@pytest.mark.parametrize("scenario", ["traced"])
def test_bpftrace_traces_the_same_kill(result: ScenarioResult) -> None:
    """One kprobe on oom_kill_process, one kill by sysrq: one kill, with the same trigger."""
    for events in result.events.values():
        (kill,) = events.kills
        assert kill.trigger is not None
        assert [[kill.trigger.tid, kill.trigger.comm]] == result.made.bpftrace_kills


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields that are known, by their full names."""
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flatten(item, f"{prefix}{name}.")
        elif item is not None:
            yield f"{prefix}{name}", item


def _pids_by_incident(kills: Mapping[int, OomKill]) -> set[frozenset[int]]:
    """Return the victims of each incident."""
    found: dict[str, set[int]] = {}
    for tgid, kill in kills.items():
        found.setdefault(kill.incident or kill.uid, set()).add(tgid)
    return {frozenset(pids) for pids in found.values()}


def _stack_below_decision(kill: OomKill) -> tuple[str, ...]:
    functions = [frame.partition("+")[0] for frame in kill.stack]
    return kill.stack[functions.index("out_of_memory") :]
