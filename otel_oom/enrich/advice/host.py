"""Rules for a host that is out of memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from otel_oom.enrich.advice.inputs import (
    AdviceInput,
    host_evidence,
    is_ample,
    least_available_bytes,
    process_label,
)
from otel_oom.enrich.advice.limit_owner import find_limit_owner
from otel_oom.enrich.finding import (
    Finding,
    format_evidence,
    task_evidence,
    victim_evidence,
)
from otel_oom.enrich.types import EnrichedKill
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


def rule_kill_allocating_task(facts: AdviceInput) -> Finding | None:
    """Point to vm.oom_kill_allocating_task, where the kernel did not choose the victim."""
    decision, largest = facts.enriched.event.decision, facts.largest
    message = decision.message if decision else None
    if _KILL_ALLOCATING_TASK not in (message or "") or largest is None:
        return None
    if largest.task.total_bytes <= facts.victim.task.total_bytes:
        return None
    return Finding(
        "spared_process",
        format_evidence(
            {"oom.decision.message": message}, victim_evidence(facts.victim), task_evidence(largest)
        ),
        "The kernel is set to kill the allocating task (vm.oom_kill_allocating_task), but "
        f"{process_label(largest)} used more, {format_bytes(largest.task.total_bytes)}. Set it to "
        "0 to kill the largest process instead.",
    )


def rule_memory_nodes(facts: AdviceInput) -> Finding | None:
    """Point to memory that is on other NUMA nodes than the trigger may use."""
    decision = facts.enriched.event.decision
    constraint = decision.constraint if decision else None
    setting = _NODE_CONSTRAINTS.get(constraint or "")
    if setting is None or not facts.host_has_memory:
        return None
    return Finding(
        "numa_constraint",
        format_evidence(
            {"oom.decision.constraint": constraint},
            facts.host_evidence,
            victim_evidence(facts.victim),
        ),
        f"The host had {format_bytes(facts.available_bytes)} available, but not on the NUMA nodes "
        f"that the trigger may use. Widen its {setting}, or run less on these nodes.",
    )


def rule_fragmentation(facts: AdviceInput) -> Finding | None:
    """Point to memory that is free in smaller pieces than the request."""
    decision = facts.enriched.event.decision
    order = decision.order if decision else None
    if order is None or order < 1 or not facts.host_has_memory:
        return None
    return Finding(
        "fragmentation",
        format_evidence(
            {"oom.request.order": order}, facts.host_evidence, victim_evidence(facts.victim)
        ),
        f"The request was for {format_bytes(PAGE_BYTES << order)} in one piece, and the "
        f"{format_bytes(facts.available_bytes)} available were in smaller pieces. A larger "
        "vm.min_free_kbytes keeps larger pieces free.",
    )


def rule_memory_kind(facts: AdviceInput) -> Finding | None:
    """Explain a kind of memory with half of the host's that is not process memory."""
    total = facts.host_memory.get("total", 0)
    for name, subject, advice in _KINDS:
        held = facts.host_memory.get(name, 0)
        if total and held * 2 >= total:
            part = {f"oom.host.memory.{name}": held}
            return Finding(
                "unreclaimable_memory",
                format_evidence(facts.host_evidence, part),
                f"{subject} use {format_bytes(held)} of the host's {format_bytes(total)}: "
                f"{advice}.",
            )
    return None


def rule_single_process(facts: AdviceInput) -> Finding | None:
    """Blame the victim if it used a quarter of the host's memory."""
    held, total = facts.victim.task.total_bytes, facts.host_memory.get("total", 0)
    if not total or held * 4 < total:
        return None
    swap = "" if facts.host_memory.get("swap_total", 1) else ", which has no swap"
    path = facts.enriched.event.memcg.path if facts.enriched.event.memcg else ""
    owner = find_limit_owner(facts.enriched, path)
    limit = (
        "its cgroup a limit" if owner.cgroup_only else f"{owner.label} a limit ({owner.setting})"
    )
    return Finding(
        "host_memory",
        format_evidence(facts.host_evidence, victim_evidence(facts.victim)),
        f"{process_label(facts.victim)} used {format_bytes(held)} of the host's "
        f"{format_bytes(total)}. Give {limit} that leaves memory for the rest of the host{swap}, "
        "or reduce its memory usage.",
    )


def find_exhausted_host(enriched: EnrichedKill) -> Finding | None:
    """Report a host without available memory, also where its processes were not listed.

    Without the host's memory, a request for one page that any node could fulfil is enough.
    """
    decision, memory = enriched.event.decision, _read_host_memory(enriched)
    if enriched.limit_scope != "host" or decision is None:
        return None
    evidence = {"oom.limit.scope": "host", "oom.request.order": decision.order}
    if not memory:
        is_single_page = decision.order == 0 and decision.constraint not in _NODE_CONSTRAINTS
        return Finding("host_memory", format_evidence(evidence)) if is_single_page else None
    event, total, available = enriched.event, memory["total"], memory["available"]
    held = event.memory.resident if event.memory else 0
    if is_ample(least_available_bytes(memory, held, event.original), total):
        return None
    return Finding(
        "host_memory",
        format_evidence(evidence, host_evidence(memory)),
        f"The host had {format_bytes(available)} of its {format_bytes(total)} available. Give its "
        "pods, containers and units limits whose sum leaves memory for the rest of the host, or "
        "give the host more memory.",
    )


def _read_host_memory(enriched: EnrichedKill) -> Mapping[str, int]:
    memory = enriched.snapshot.host.memory if enriched.snapshot.host else {}
    return memory if memory.keys() >= {"total", "available"} else {}
