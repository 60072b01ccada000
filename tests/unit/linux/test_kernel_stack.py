"""Stacks trimmed to the decision: of 5.10 and 6.1, and made ones."""

from __future__ import annotations

import pytest

from otel_oom.linux.kernel_stack import trim_to_decision

TRACED = ["bpf_prog_ecf7290be8274c97_mark_victim_btf+0x1534", "bpf_trace_run2+0x4a"]
KILL = ["mark_oom_victim+0xa4", "__oom_kill_process+0x14a", "oom_kill_process+0x71"]
MEMBER = [*KILL[:2], "oom_kill_memcg_member+0x55", "mem_cgroup_scan_tasks+0x75", KILL[2]]
OF_KILL = ["bpf_trampoline_6442529193+0x76", "oom_kill_process+0x5"]
SEARCH = ["out_of_memory+0x1fd"]
OF_SEARCH = ["bpf_trampoline_6442529189+0x2e", "out_of_memory+0x5"]
CALLER = ["mem_cgroup_out_of_memory+0x134", "try_charge_memcg+0x696", "asm_exc_page_fault+0x22"]
IN_VAIN = ["bpf_prog_1e807f1ca82ce2c3_out_of_memory_fexit+0xd68", "bpf_trampoline_26446_0+0x3f"]
PRINTED = ["dump_stack_lvl+0x57", "dump_header+0x43", "oom_kill_process.cold+0x8"]
FOREIGN = ["handle_mm_fault+0xdb", "bpf_trampoline_1_0+0x50", "handle_mm_fault+0x5", "exc_x+0x1"]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([*TRACED, *KILL, *SEARCH, *CALLER], [*KILL, *SEARCH, *CALLER]),
        (
            [*TRACED, *KILL, *OF_KILL, *SEARCH, *OF_SEARCH, *CALLER],
            [*KILL, *SEARCH, *CALLER],
        ),
        (
            [*TRACED, *MEMBER, *OF_KILL, *SEARCH, *OF_SEARCH, *CALLER],
            [*MEMBER, *SEARCH, *CALLER],
        ),
        ([*IN_VAIN, OF_SEARCH[1], *CALLER], [OF_SEARCH[1], *CALLER]),
        ([*IN_VAIN, *CALLER], CALLER),
        (
            [*PRINTED, *OF_KILL, *SEARCH, *OF_SEARCH, *CALLER],
            [PRINTED[2], *SEARCH, *CALLER],
        ),
        ([*SEARCH, *FOREIGN], [*SEARCH, FOREIGN[0], FOREIGN[3]]),
        ([*SEARCH, "recurses+0x5", "recurses+0x5"], [*SEARCH, "recurses+0x5", "recurses+0x5"]),
        ([*PRINTED[:2], *CALLER], CALLER),
        ([*SEARCH, *CALLER, "dump_emit+0x9"], [*SEARCH, *CALLER, "dump_emit+0x9"]),
        (["", "", *SEARCH, "", *CALLER], [*SEARCH, *CALLER]),
        (CALLER, CALLER),
        ([IN_VAIN[1]], []),
        ([], []),
    ],
    ids=[
        *("kprobe", "fexit", "group", "no victim", "no victim, its frame unnamed", "logged"),
        *("another's tracing", "recursion", "undecided", "core dump", "unnamed"),
        *("outside", "nothing", "empty"),
    ],
)
def test_frames_of_tracing_are_trimmed(frames: list[str], expected: list[str]) -> None:
    """From the decision outwards, or from its caller."""
    assert list(trim_to_decision(frames)) == expected
