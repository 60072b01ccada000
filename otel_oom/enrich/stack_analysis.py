"""Analysis of the kernel stack of an allocation: origin, memory type and entry point.

The stack is that of the trigger at the mark: function names, from the decision outwards. Names
differ between kernels; each list has those of 5.10 to 7.2. The kernel log may be of an older one,
or of another architecture: origins and entries are those of 2.6.32 on. What no list has is
``None``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from otel_oom.model.event_base import function_name


class StackAnalysis(Struct, frozen=True):
    """The values of ``oom.decision.origin``, ``oom.request.memory_type`` and ``.entry_point``.

    ``memory_type`` is never a huge page: a failed allocation of more than 8 pages kills no process
    (PAGE_ALLOC_COSTLY_ORDER, in ``mem_cgroup_oom()`` and ``__alloc_pages_may_oom()``).
    """

    origin: str | None
    memory_type: str | None
    entry_point: str | None


# The first match decides: moom_callback() calls out_of_memory() as well.
_ORIGINS: Final = (
    ("sysrq", ("moom_callback",)),
    (
        "memcg",
        (
            *("mem_cgroup_out_of_memory", "mem_cgroup_oom", "mem_cgroup_handle_oom"),
            # From 3.12 to 4.18 at the end of a fault; the decision itself may be inlined.
            "mem_cgroup_oom_synchronize",
        ),
    ),
    ("page_fault", ("pagefault_out_of_memory",)),
    (
        "host",
        (
            *("__alloc_pages_may_oom", "__alloc_pages_slowpath", "__alloc_pages"),
            *("__alloc_pages_nodemask", "__alloc_pages_noprof", "__alloc_frozen_pages_noprof"),
        ),
    ),
)

# Likewise: a page table is allocated inside a fault on anonymous memory, a slab object inside a
# write to the page cache. The innermost purpose is that of the request.
_MEMORY_TYPES: Final = (
    ("socket", ("mem_cgroup_charge_skmem", "mem_cgroup_sk_charge", "sk_page_frag_refill")),
    (
        "page_table",
        ("pte_alloc_one", "__pte_alloc", "__pmd_alloc", "__pud_alloc", "__p4d_alloc", "pgd_alloc"),
    ),
    (
        "kernel",
        (
            *("obj_cgroup_charge", "__memcg_kmem_charge_page", "__memcg_slab_post_alloc_hook"),
            *("allocate_slab", "new_slab", "__vmalloc_node_range"),
        ),
    ),
    (
        "shmem",
        (
            *("shmem_get_folio_gfp", "shmem_getpage_gfp", "shmem_fault"),
            *("shmem_alloc_and_add_folio", "shmem_add_to_page_cache"),
        ),
    ),
    (
        "page_cache",
        (
            *("filemap_add_folio", "__filemap_add_folio", "__filemap_get_folio", "filemap_fault"),
            *("add_to_page_cache_lru", "__add_to_page_cache_locked", "pagecache_get_page"),
            *("page_cache_ra_unbounded", "collapse_file"),
        ),
    ),
    (
        "anonymous",
        (
            *("do_anonymous_page", "alloc_anon_folio", "wp_page_copy"),
            *("do_cow_fault", "do_swap_page"),
            # Called by these, where the compiler inlined them into the fault handler. For other
            # memory the functions above are on the stack as well.
            *("alloc_pages_vma", "vma_alloc_folio", "vma_alloc_folio_noprof"),
            *("mem_cgroup_charge", "__mem_cgroup_charge"),
        ),
    ),
)

# The wrapper with the name of the system call often ends in a tail call of one of these helpers,
# and is not on the stack then. A helper that several system calls share identifies none.
_SYSCALL: Final = re.compile(
    r"(?:__(?:x64|ia32|arm64|s390x?|riscv|se|do)_sys_|ksys_|__sys_|sys_|SyS_)(?P<name>\w+)"
)
_HELPERS: Final = {
    "do_mlock": "mlock",
    "do_readv": "readv",
    "do_writev": "writev",
    "ksys_mmap_pgoff": "mmap",
    "vm_mmap_pgoff": "mmap",
}
_SYSCALL_ENTRY: Final = frozenset(
    {
        *("do_syscall_64", "x64_sys_call", "do_int80_emulation", "ia32_sys_call"),
        *("do_fast_syscall_32", "__do_fast_syscall_32"),
        *("do_el0_svc", "el0_svc", "el0_svc_common", "invoke_syscall", "el0_svc_naked"),
        # Before 4.17 on x86; 32-bit arm; powerpc; s390; riscv; loongarch; sparc64.
        *("system_call_fastpath", "entry_SYSCALL_64_fastpath", "system_call_after_swapgs"),
        *("ret_fast_syscall", "system_call_exception", "system_call", "__do_syscall"),
        *("do_trap_ecall_u", "ret_from_syscall", "do_syscall", "handle_syscall"),
        "linux_sparc_syscall",
    }
)
_FAULT: Final = frozenset(
    {
        *("exc_page_fault", "asm_exc_page_fault", "do_user_addr_fault", "do_page_fault"),
        "do_mem_abort",
        # Before 5.8 on x86; 32-bit arm; powerpc; s390; riscv; sparc64.
        *("page_fault", "async_page_fault", "__do_page_fault"),
        *("do_DataAbort", "__dabt_usr", "___do_page_fault", "do_dat_exception"),
        *("handle_page_fault", "do_sparc64_fault"),
    }
)
_KERNEL_THREAD: Final = frozenset({"kthread", "worker_thread", "process_one_work"})


def analyse_stack(stack: Sequence[str]) -> StackAnalysis:
    """Analyse ``stack``, which goes from the decision outwards."""
    functions = [function_name(frame) for frame in stack]
    return StackAnalysis(
        origin=_first_match(functions, _ORIGINS),
        memory_type=_first_match(functions, _MEMORY_TYPES),
        entry_point=_entry_point(functions),
    )


def _first_match(
    functions: Sequence[str], kinds: Sequence[tuple[str, tuple[str, ...]]]
) -> str | None:
    return next((kind for kind, names in kinds if not set(names).isdisjoint(functions)), None)


def _entry_point(functions: Sequence[str]) -> str | None:
    """Find the entry into the kernel, from the outermost frame inwards."""
    in_system_call = False
    for name in reversed(functions):
        if name in _SYSCALL_ENTRY:
            in_system_call = True
            continue
        if in_system_call:
            match = _SYSCALL.fullmatch(name)
            return _HELPERS.get(name) or (match["name"] if match else None)
        if name in _FAULT:
            return "page_fault"
        if name in _KERNEL_THREAD:
            return "kernel_thread"
    return None
