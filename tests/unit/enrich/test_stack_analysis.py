"""Analysis of kernel stacks."""

from __future__ import annotations

import pytest

from otel_oom.enrich.stack_analysis import StackAnalysis, analyse_stack

MEMCG = ["mark_oom_victim", "oom_kill_process", "out_of_memory", "mem_cgroup_out_of_memory"]
HOST = ["mark_oom_victim", "oom_kill_process", "out_of_memory", "__alloc_pages_slowpath"]
FAULT = ["handle_mm_fault", "exc_page_fault", "asm_exc_page_fault"]
CALL = ["do_syscall_64", "entry_SYSCALL_64_after_hwframe"]
MEMCG = ["mark_oom_victim", "__oom_kill_process", *MEMCG[1:]]
HOST = ["mark_oom_victim", "__oom_kill_process", *HOST[1:]]
WRITE = ["vfs_write", "ksys_write", "__x64_sys_write", *CALL]


@pytest.mark.parametrize(
    ("functions", "expected"),
    [
        ([*MEMCG, "do_anonymous_page", *FAULT], StackAnalysis("memcg", "anonymous", "page_fault")),
        ([*HOST, "do_anonymous_page", *FAULT], StackAnalysis("host", "anonymous", "page_fault")),
        (
            [*MEMCG, "try_charge", "mem_cgroup_charge", "handle_mm_fault", "exc_page_fault"],
            StackAnalysis("memcg", "anonymous", "page_fault"),
        ),
        (
            [*MEMCG, "charge_memcg", "__mem_cgroup_charge", "shmem_add_to_page_cache", *WRITE],
            StackAnalysis("memcg", "shmem", "write"),
        ),
        (
            [*MEMCG, "__mem_cgroup_charge", "__filemap_add_folio", *FAULT],
            StackAnalysis("memcg", "page_cache", "page_fault"),
        ),
        (
            [*HOST, "alloc_pages_vma", "handle_mm_fault", "__mm_populate", "vm_mmap_pgoff", *CALL],
            StackAnalysis("host", "anonymous", "mmap"),
        ),
        (
            [*HOST, "pte_alloc_one", "do_huge_pmd_anonymous_page", "vm_mmap_pgoff", *CALL],
            StackAnalysis("host", "page_table", "mmap"),
        ),
        (
            [*MEMCG, "mem_cgroup_sk_charge", "tcp_sendmsg", "__sys_sendto", *CALL],
            StackAnalysis("memcg", "socket", "sendto"),
        ),
        ([*MEMCG, "shmem_get_folio_gfp", *WRITE], StackAnalysis("memcg", "shmem", "write")),
        ([*MEMCG, "shmem_getpage_gfp.isra.0", *WRITE], StackAnalysis("memcg", "shmem", "write")),
        (
            [*MEMCG, "filemap_add_folio", "filemap_fault", *FAULT],
            StackAnalysis("memcg", "page_cache", "page_fault"),
        ),
        (
            [*MEMCG, "obj_cgroup_charge_pages", "pte_alloc_one", "do_anonymous_page", *FAULT],
            StackAnalysis("memcg", "page_table", "page_fault"),
        ),
        (
            [*MEMCG, "__memcg_kmem_charge_page", "pipe_write", *WRITE],
            StackAnalysis("memcg", "kernel", "write"),
        ),
        (
            [*MEMCG, "mem_cgroup_charge_skmem", "tcp_sendmsg", "__x64_sys_sendto", *CALL],
            StackAnalysis("memcg", "socket", "sendto"),
        ),
        (
            ["__oom_kill_process", "out_of_memory", "moom_callback", "worker_thread", "kthread"],
            StackAnalysis("sysrq", None, "kernel_thread"),
        ),
        (
            ["__oom_kill_process", "pagefault_out_of_memory", "do_user_addr_fault"],
            StackAnalysis("page_fault", None, "page_fault"),
        ),
        (
            [*MEMCG, "do_cow_fault", "__arm64_sys_mlock", "invoke_syscall", "el0_svc"],
            StackAnalysis("memcg", "anonymous", "mlock"),
        ),
        (
            # Red Hat 7.
            [
                *("oom_kill_process", "mem_cgroup_oom_synchronize", "pagefault_out_of_memory"),
                *("mm_fault_error", "__do_page_fault", "do_page_fault", "page_fault"),
            ],
            StackAnalysis("memcg", None, "page_fault"),
        ),
        (
            # Red Hat 6.
            [
                *("oom_kill_process", "out_of_memory", "__alloc_pages_nodemask"),
                *("do_sync_read", "vfs_read", "sys_read", "system_call_fastpath"),
            ],
            StackAnalysis("host", None, "read"),
        ),
        (
            # 32-bit arm, powerpc, s390.
            [*HOST, "do_anonymous_page", "handle_mm_fault", "do_page_fault", "__dabt_usr"],
            StackAnalysis("host", "anonymous", "page_fault"),
        ),
        (
            [*HOST, "ksys_write", "system_call_exception", "system_call_common"],
            StackAnalysis("host", None, "write"),
        ),
        (
            [*HOST, "__s390x_sys_mlock", "__do_syscall", "system_call"],
            StackAnalysis("host", None, "mlock"),
        ),
        (
            [*MEMCG, "anon_pipe_write", "vfs_write", "ksys_write", *CALL],
            StackAnalysis("memcg", None, "write"),
        ),
        (
            [*MEMCG, "filemap_fault", "do_mlock", *CALL],
            StackAnalysis("memcg", "page_cache", "mlock"),
        ),
        (
            [*MEMCG, "shmem_get_folio_gfp", "__x64_sys_write", "x64_sys_call", *CALL],
            StackAnalysis("memcg", "shmem", "write"),
        ),
        ([*MEMCG, "do_sys_openat2", *CALL], StackAnalysis("memcg", None, None)),
        (
            ["mark_oom_victim", "out_of_memory", "mem_cgroup_out_of_memory", *FAULT],
            StackAnalysis("memcg", None, "page_fault"),
        ),
        (
            ["mark_oom_victim", "oom_kill_process", "out_of_memory", *FAULT],
            StackAnalysis(None, None, "page_fault"),
        ),
        ([*MEMCG, "a_new_way_in", *CALL], StackAnalysis("memcg", None, None)),
        (["something_new"], StackAnalysis(None, None, None)),
        ([], StackAnalysis(None, None, None)),
    ],
)
def test_analyse_stack(functions: list[str], expected: StackAnalysis) -> None:
    assert analyse_stack([f"{name}+0x1f" for name in functions]) == expected
