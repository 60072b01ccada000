"""Functions of kernel stacks."""

from __future__ import annotations

import pytest

from otel_oom.model.event_base import function_name, is_exiting_victim

MEMCG = ["mark_oom_victim", "oom_kill_process", "out_of_memory", "mem_cgroup_out_of_memory"]
HOST = ["mark_oom_victim", "oom_kill_process", "out_of_memory", "__alloc_pages_slowpath"]
MEMCG = ["mark_oom_victim", "__oom_kill_process", *MEMCG[1:]]
HOST = ["mark_oom_victim", "__oom_kill_process", *HOST[1:]]


def test_function_name_has_no_offset_and_suffix() -> None:
    assert function_name("shmem_getpage_gfp.isra.0+0x4b") == "shmem_getpage_gfp"
    assert function_name("ext4_writepages+0x1 [ext4]") == "ext4_writepages"


@pytest.mark.parametrize(
    ("functions", "exiting"),
    [
        (MEMCG, False),
        (["mark_oom_victim", "out_of_memory", "mem_cgroup_out_of_memory"], True),
        (["mark_oom_victim.part.0", "oom_kill_process", "out_of_memory"], True),
        (["mark_oom_victim"], False),
        (["out_of_memory", "oom_kill_process"], False),
        ([], False),
    ],
)
def test_is_exiting_victim(functions: list[str], *, exiting: bool) -> None:
    assert is_exiting_victim([f"{name}+0x1f" for name in functions]) is exiting
