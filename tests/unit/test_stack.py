"""Which frames of a kernel stack are told. The stacks are as kernels had them."""

from __future__ import annotations

import pytest

from otel_oom.capture.stack import outwards

TRACED = ["bpf_prog_ecf7290be8274c97_mark_victim_btf+0x1534", "bpf_trace_run2+0x4a"]
KILL = ["mark_oom_victim+0xa4", "__oom_kill_process+0x14a", "oom_kill_process+0x71"]
FEXIT = "bpf_trampoline_6442477234_0+0xa7"
SEARCH = ["out_of_memory+0x1fd"]
CALLER = ["mem_cgroup_out_of_memory+0x134", "try_charge_memcg+0x696", "asm_exc_page_fault+0x22"]
PRINTED = ["dump_stack_lvl+0x57", "dump_header+0x43", "oom_kill_process.cold+0x8"]


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ([*TRACED, *KILL, *SEARCH, *CALLER], [*KILL, *SEARCH, *CALLER]),
        ([*TRACED, *KILL, FEXIT, *SEARCH, FEXIT, *CALLER], [*KILL, *SEARCH, *CALLER]),
        (
            [*TRACED, *KILL, "__kretprobe_trampoline+0x0", *SEARCH, *CALLER],
            [*KILL, *SEARCH, *CALLER],
        ),
        (["bpf_prog_1_search_ends_fentry+0x3c", FEXIT, *CALLER], CALLER),
        (
            [
                *("bpf_prog_1_search_ends_kprobe+0x3c", "trampoline_handler+0x9"),
                *("kretprobe_trampoline+0x2a", *CALLER),
            ],
            CALLER,
        ),
        ([*PRINTED, *SEARCH, FEXIT, *CALLER], [PRINTED[2], *SEARCH, *CALLER]),
        (["dump_stack+0x1", "dump_header+0x2", *CALLER], CALLER),
        ([*SEARCH, *CALLER, "dump_emit+0x9"], [*SEARCH, *CALLER, "dump_emit+0x9"]),
        (["", "", *SEARCH, "", *CALLER], [*SEARCH, *CALLER]),
        (CALLER, CALLER),
        ([FEXIT], []),
        ([], []),
    ],
    ids=[
        *("plain", "fexit", "kretprobe", "end by fexit", "end by kretprobe"),
        *("logged", "undecided", "core dump", "unnamed", "outside", "nothing", "empty"),
    ],
)
def test_tracing_is_not_told(frames: list[str], told: list[str]) -> None:
    """From the decision, or else from who called it, outwards: without tracing's own frames."""
    assert list(outwards(frames)) == told
