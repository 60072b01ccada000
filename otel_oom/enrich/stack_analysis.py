"""Where in the kernel the kill was decided: who decided, for which memory, asked for by what.

All of it is read off the stack of the trigger at the moment of the mark: function names, from the
decision outwards. Names differ between kernels; each list has those of 5.10 to 7.2. What no list
knows is ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from otel_oom.model.event_base import function_name


@dataclass(frozen=True, slots=True)
class StackAnalysis:
    """What the stack says; ``entry`` is a system call's name, or how else the kernel came in.

    ``memory`` is never a huge page: for more than 8 pages at once nobody is killed
    (PAGE_ALLOC_COSTLY_ORDER, in ``mem_cgroup_oom()`` and ``__alloc_pages_may_oom()``).
    """

    by: str | None
    memory: str | None
    entry: str | None


# The first that matches decides: moom_callback() goes on through out_of_memory() as well.
_BY: Final = (
    ("sysrq", ("moom_callback",)),
    ("memcg", ("mem_cgroup_out_of_memory", "mem_cgroup_oom")),
    ("page_fault", ("pagefault_out_of_memory",)),
    ("host", ("__alloc_pages_may_oom", "__alloc_pages_slowpath", "__alloc_pages")),
)

# Likewise: a page table is allocated inside a fault on anonymous memory, a slab object inside a
# write to the page cache. The innermost purpose is what was asked for.
_MEMORY: Final = (
    ("socket", ("mem_cgroup_charge_skmem", "mem_cgroup_sk_charge", "sk_page_frag_refill")),
    (
        "page_table",
        ("pte_alloc_one", "__pte_alloc", "__pmd_alloc", "__pud_alloc", "__p4d_alloc", "pgd_alloc"),
    ),
    (
        "kernel",
        (
            "obj_cgroup_charge",
            "__memcg_kmem_charge_page",
            "__memcg_slab_post_alloc_hook",
            "allocate_slab",
            "new_slab",
            "__vmalloc_node_range",
        ),
    ),
    (
        "shmem",
        (
            "shmem_get_folio_gfp",
            "shmem_getpage_gfp",
            "shmem_alloc_and_add_folio",
            "shmem_add_to_page_cache",
            "shmem_fault",
        ),
    ),
    (
        "page_cache",
        (
            "filemap_add_folio",
            "__filemap_add_folio",
            "add_to_page_cache_lru",
            "__add_to_page_cache_locked",
            "collapse_file",
            "__filemap_get_folio",
            "pagecache_get_page",
            "filemap_fault",
            "page_cache_ra_unbounded",
        ),
    ),
    (
        "anonymous",
        (
            *("do_anonymous_page", "alloc_anon_folio", "wp_page_copy"),
            *("do_cow_fault", "do_swap_page"),
            # What these call, where the compiler made them parts of the fault's handler; around
            # it are the functions above when it is for other memory.
            *("alloc_pages_vma", "vma_alloc_folio", "vma_alloc_folio_noprof"),
            *("mem_cgroup_charge", "__mem_cgroup_charge"),
        ),
    ),
)

# The wrapper that has the call's name often ends in a jump to one of these helpers, and is not in
# the stack then. A helper that several calls share tells none.
_SYSCALL: Final = re.compile(
    r"(?:__(?:x64|ia32|arm64|s390x?|riscv|se|do)_sys_|ksys_|__sys_)(?P<name>\w+)"
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
        "__do_fast_syscall_32",
        "do_el0_svc",
        "do_fast_syscall_32",
        "do_int80_emulation",
        "do_syscall_64",
        "el0_svc",
        "el0_svc_common",
        "ia32_sys_call",
        "invoke_syscall",
        "x64_sys_call",
    }
)
_FAULT: Final = frozenset(
    {"exc_page_fault", "asm_exc_page_fault", "do_user_addr_fault", "do_page_fault", "do_mem_abort"}
)
_KERNEL_THREAD: Final = frozenset({"kthread", "worker_thread", "process_one_work"})


def analyse_stack(stack: Sequence[str]) -> StackAnalysis:
    """What ``stack``, from the decision outwards, says."""
    functions = [function_name(frame) for frame in stack]
    return StackAnalysis(
        by=_first(functions, _BY),
        memory=_first(functions, _MEMORY),
        entry=_entry(functions),
    )


def _first(functions: Sequence[str], kinds: Sequence[tuple[str, tuple[str, ...]]]) -> str | None:
    return next((kind for kind, names in kinds if not set(names).isdisjoint(functions)), None)


def _entry(functions: Sequence[str]) -> str | None:
    """How the kernel was entered: the outermost frames, so looked for from there."""
    inside_call = False
    for name in reversed(functions):
        if name in _SYSCALL_ENTRY:
            inside_call = True
            continue
        if inside_call:
            call = _SYSCALL.fullmatch(name)
            return _HELPERS.get(name) or (call["name"] if call else None)
        if name in _FAULT:
            return "page_fault"
        if name in _KERNEL_THREAD:
            return "kernel_thread"
    return None
