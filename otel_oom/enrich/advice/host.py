"""Advice where the host itself had no memory left."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.advice.inputs import AdviceInput, who
from otel_oom.model.units import PAGE_BYTES, format_bytes

_SET_TO_ALLOCATING: Final = "oom_kill_allocating_task"
_NODES: Final = {"cpuset": "cpuset (cpuset.mems)", "memory_policy": "memory policy"}
_KINDS: Final = (
    ("hugetlb", "are set apart as huge pages, which nothing else can use: lower vm.nr_hugepages"),
    (
        "shmem",
        (
            "are shared memory or tmpfs, which can stay when processes end: look for files there "
            "(/dev/shm, /run, volumes in memory)"
        ),
    ),
    (
        "slab_unreclaimable",
        "are kernel objects that can't be let go of: slabtop shows which",
    ),
)
"""Parts of /proc/meminfo that no process is to blame for, and what to do about each."""


def allocating(facts: AdviceInput) -> str | None:
    """The kernel was set not to choose."""
    message = facts.enriched.kill.decision.message if facts.enriched.kill.decision else None
    largest = facts.largest
    if _SET_TO_ALLOCATING not in (message or "") or largest is None:
        return None
    if largest.candidate.total_bytes <= facts.victim.candidate.total_bytes:
        return None
    return (
        "The kernel is set to kill whoever asks for memory (vm.oom_kill_allocating_task), and "
        f"{who(largest)} held more, {format_bytes(largest.candidate.total_bytes)}: set it to 0 to "
        "have the largest killed."
    )


def nodes(facts: AdviceInput) -> str | None:
    """There was memory, where the trigger may not have it."""
    decision = facts.enriched.kill.decision
    bound = _NODES.get((decision.constraint or "") if decision else "")
    if bound is None or not facts.spare_is_plenty:
        return None
    return (
        f"The host had {format_bytes(facts.spare)} left, but not on the nodes that the trigger may "
        f"use: widen its {bound}, or have less run on them."
    )


def fragmented(facts: AdviceInput) -> str | None:
    """There was memory, in smaller pieces than were asked for."""
    decision = facts.enriched.kill.decision
    order = decision.order if decision else None
    if order is None or order < 1 or not facts.spare_is_plenty:
        return None
    return (
        f"{format_bytes(PAGE_BYTES << order)} in one piece were asked for, and the host had "
        f"{format_bytes(facts.spare)} left in smaller ones: a larger vm.min_free_kbytes keeps more "
        "of it in one piece."
    )


def kind(facts: AdviceInput) -> str | None:
    """Most of it was of a kind that is not what processes hold."""
    total = facts.host.get("total", 0)
    for name, what in _KINDS:
        held = facts.host.get(name, 0)
        if total and held * 2 >= total:
            return f"{format_bytes(held)} of the host's {format_bytes(total)} {what}."
    return None


def alone(facts: AdviceInput) -> str | None:
    """It was the victim itself."""
    held, total = facts.victim.candidate.total_bytes, facts.host.get("total", 0)
    if not total or held * 4 < total:
        return None
    swap = "" if facts.host.get("swap_total", 1) else ", which has no swap"
    return (
        f"{who(facts.victim)} held {format_bytes(held)} of the host's {format_bytes(total)}: give "
        f"its cgroup a limit that leaves room for the others on this host{swap}, or have it use "
        "less."
    )
