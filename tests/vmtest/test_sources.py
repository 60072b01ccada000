"""What BPF and the kernel's log tell of the same kill is the same."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from msgspec import to_builtins

from otel_oom.model.events import OomKill
from tests.vmtest.scenario_result import Played
from tests.vmtest.scenarios import SCENARIOS

_OWN: Final = (
    # Of the source itself, or of the instant at which it looks.
    *("capture.", "decision.source", "boottime_ns", "time_unix_ns", "incident"),
    *("stack", "user_stack"),  # the one see below; the log has none of user space
    *("original", "tasks"),  # where both have them, one was early: see test_logs.py
)
_HELD_BACK: Final = 1 << 20
"""More than a victim's threads, or a guest's CPUs, can have counted without having told it yet."""

_SLACK: Final = {
    # /proc tells a start in clock ticks, rounded down.
    "victim.start_boottime_ns": 10**9 // os.sysconf("SC_CLK_TCK"),
    "trigger.start_boottime_ns": 10**9 // os.sysconf("SC_CLK_TCK"),
    # Who runs on tells more of its own before the line is printed; likewise a cgroup.
    "memory.anon": _HELD_BACK,
    "memory.file": _HELD_BACK,
    "memory.shmem": _HELD_BACK,
    "decision.memcg_usage.usage": _HELD_BACK,
    "decision.memcg_usage.swap_usage": _HELD_BACK,
}


_RIP: Final = re.compile(r"RIP: 0010:(\S+\+0x[0-9a-f]+)/")


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_sources_agree(played: Played) -> None:
    """Each field that both tell has the same value, and both know which kills are one incident."""
    logged = {kill.victim.tgid or 0: kill for kill in played.told["kmsg"].kills}
    seen = {kill.victim.tgid or 0: kill for kill in played.told["libbpf"].kills}
    assert set(seen) - set(logged) == set(played.made.already_exiting)
    for tgid, kill in logged.items():
        one, other = dict(_fields(to_builtins(kill))), dict(_fields(to_builtins(seen[tgid])))
        both = {name for name in one.keys() & other.keys() if not name.startswith(_OWN)}
        assert {"victim.tgid", "victim.tid", "victim.comm"} <= both
        if kill.skipped:
            # It frees its memory while the report is being printed.
            both.discard("decision.memcg_usage.usage")
        different = {
            name: (one[name], other[name])
            for name in both
            if one[name] != other[name]
            and (name not in _SLACK or abs(one[name] - other[name]) > _SLACK[name])
        }
        assert not different
    assert _incidents(logged) == _incidents({tgid: seen[tgid] for tgid in logged})


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_tell_the_same_stack(played: Played) -> None:
    """Outside of the decision itself, where a report has the printing of it, frames are equal.

    Where the fault was in the kernel, the log has that frame among the registers.
    """
    seen = {kill.victim.tgid or 0: kill for kill in played.told["libbpf"].kills}
    in_registers = set(_RIP.findall(played.log))
    for kill in played.told["kmsg"].kills:
        if kill.stack:
            logged, whole = _outside(kill), _outside(seen[kill.victim.tgid or 0])
            assert [frame for frame in logged if frame not in in_registers] == [
                frame for frame in whole if frame not in in_registers
            ]


@pytest.mark.parametrize("name", ["traced"])
def test_bpftrace_sees_the_same_kill(played: Played) -> None:
    """One kprobe on oom_kill_process, one kill by hand: one kill, with the same trigger."""
    for told in played.told.values():
        (kill,) = told.kills
        assert kill.trigger is not None
        assert [[kill.trigger.tid, kill.trigger.comm]] == played.made.traced


def _fields(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields that are known, by their names from the outside in."""
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _fields(item, f"{prefix}{name}.")
        elif item is not None:
            yield f"{prefix}{name}", item


def _incidents(kills: Mapping[int, OomKill]) -> set[frozenset[int]]:
    """The victims of each incident."""
    found: dict[str, set[int]] = {}
    for tgid, kill in kills.items():
        found.setdefault(kill.incident or kill.uid, set()).add(tgid)
    return {frozenset(pids) for pids in found.values()}


def _outside(kill: OomKill) -> tuple[str, ...]:
    functions = [frame.partition("+")[0] for frame in kill.stack]
    return kill.stack[functions.index("out_of_memory") :]
