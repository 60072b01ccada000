"""Rules for a host that is out of memory."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.advice.inputs import AdviceInput, process_label
from otel_oom.model.units import PAGE_BYTES, format_bytes

_KILL_ALLOCATING_TASK: Final = "oom_kill_allocating_task"
_NODE_CONSTRAINTS: Final = {"cpuset": "cpuset (cpuset.mems)", "memory_policy": "memory policy"}
_KINDS: Final = (
    (
        "hugetlb",
        "Reserved huge pages",
        "no other memory can use them. Lower vm.nr_hugepages",
    ),
    (
        "shmem",
        "Shared memory and tmpfs",
        "they can stay when processes end. Look for files there (/dev/shm, /run, memory volumes)",
    ),
    (
        "slab_unreclaimable",
        "Unreclaimable kernel objects",
        "no process shows them as its own. Run slabtop to find their kind",
    ),
)
"""Values of /proc/meminfo that no process shows as its own, with the cause and what to do."""


def rule_kill_allocating_task(facts: AdviceInput) -> str | None:
    """Point to vm.oom_kill_allocating_task, where the kernel did not choose the victim."""
    decision, largest = facts.enriched.event.decision, facts.largest
    message = decision.message if decision else None
    if _KILL_ALLOCATING_TASK not in (message or "") or largest is None:
        return None
    if largest.task.total_bytes <= facts.victim.task.total_bytes:
        return None
    return (
        "The kernel is set to kill the allocating task (vm.oom_kill_allocating_task), but "
        f"{process_label(largest)} used more, {format_bytes(largest.task.total_bytes)}. Set it to "
        "0 to kill the largest process instead."
    )


def rule_memory_nodes(facts: AdviceInput) -> str | None:
    """Point to memory that is on other NUMA nodes than the trigger may use."""
    decision = facts.enriched.event.decision
    constraint = _NODE_CONSTRAINTS.get((decision.constraint or "") if decision else "")
    if constraint is None or not facts.host_has_memory:
        return None
    return (
        f"The host had {format_bytes(facts.available_bytes)} available, but not on the NUMA nodes "
        f"that the trigger may use. Widen its {constraint}, or run less on these nodes."
    )


def rule_fragmentation(facts: AdviceInput) -> str | None:
    """Point to memory that is free in smaller pieces than the request."""
    decision = facts.enriched.event.decision
    order = decision.order if decision else None
    if order is None or order < 1 or not facts.host_has_memory:
        return None
    return (
        f"The request was for {format_bytes(PAGE_BYTES << order)} in one piece, and the "
        f"{format_bytes(facts.available_bytes)} available were in smaller pieces. A larger "
        "vm.min_free_kbytes keeps larger pieces free."
    )


def rule_memory_kind(facts: AdviceInput) -> str | None:
    """Explain a kind of memory with half of the host's that is not process memory."""
    total = facts.host_memory.get("total", 0)
    for name, subject, advice in _KINDS:
        held = facts.host_memory.get(name, 0)
        if total and held * 2 >= total:
            return (
                f"{subject} use {format_bytes(held)} of the host's {format_bytes(total)}: {advice}."
            )
    return None


def rule_single_process(facts: AdviceInput) -> str | None:
    """Blame the victim if it used a quarter of the host's memory."""
    held, total = facts.victim.task.total_bytes, facts.host_memory.get("total", 0)
    if not total or held * 4 < total:
        return None
    swap = "" if facts.host_memory.get("swap_total", 1) else ", which has no swap"
    return (
        f"{process_label(facts.victim)} used {format_bytes(held)} of the host's "
        f"{format_bytes(total)}. Give its cgroup a limit that leaves memory for the rest of the "
        f"host{swap}, or reduce its memory usage."
    )
