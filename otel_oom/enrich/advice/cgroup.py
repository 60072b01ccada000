"""Rules for the limit of a cgroup."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from otel_oom.enrich.advice.inputs import AdviceInput, limit_label, process_label
from otel_oom.enrich.advice.limit_owner import find_limit_owner
from otel_oom.enrich.finding import (
    Finding,
    format_evidence,
    task_evidence,
    victim_evidence,
)
from otel_oom.model.units import format_bytes

_KINDS: Final = (
    (
        ("shmem",),
        "Shared memory and tmpfs",
        "they can stay when processes end. Look for files there (/dev/shm, memory volumes)",
    ),
    (("sock",), "Socket buffers", "the reader is too slow. Fix that"),
    (
        ("kernel",),
        "Kernel objects",
        "no process shows them as its own. Check open files, pipes, threads and mappings",
    ),
    (
        ("file_dirty", "file_writeback"),
        "Unwritten file pages",
        "the disk is slower than the writer. Write less at once",
    ),
)
"""Values of memory.stat that no process shows as its own, with the cause and what to do."""


def rule_memory_kind(facts: AdviceInput) -> Finding | None:
    """Explain a kind of memory with half of the limit that is not process memory."""
    for names, subject, advice in _KINDS:
        parts = {name: facts.memcg_stat.get(name, 0) for name in names}
        held = sum(parts.values())
        if facts.limit_bytes is not None and held * 2 >= facts.limit_bytes:
            limit = f"the limit of {format_bytes(facts.limit_bytes)}"
            stat = {
                f"{facts.memcg_prefix}.stat.{name}": size or None for name, size in parts.items()
            }
            return Finding(
                "unreclaimable_memory",
                format_evidence(facts.limit_evidence, stat),
                f"{subject} use {format_bytes(held)} of {limit}: {advice} before raising "
                f"{limit_label(facts)}.",
            )
    return None


def rule_sibling_cgroup(facts: AdviceInput) -> Finding | None:
    """Name another cgroup below the same limit that used more than the victim's."""
    limit = facts.limit_bytes
    if facts.enriched.limit_scope not in {"pod", "ancestor"} or limit is None:
        return None
    held: dict[str, int] = defaultdict(int)
    for ranked in facts.enriched.ranked_tasks:
        held[ranked.task.memcg or ""] += ranked.task.total_bytes
    own = facts.victim.task.memcg or ""
    largest = max(held, key=lambda path: held[path])
    if not largest or largest == own or held[largest] * 4 < limit:
        return None
    owner = find_limit_owner(facts.enriched, largest)
    remedy = (
        "Give that cgroup its own limit"
        if owner.cgroup_only
        else f"Give it its own limit ({owner.setting}), or a lower one"
    )
    neighbours = (
        task_evidence(ranked)
        for ranked in facts.enriched.ranked_tasks
        if ranked.task.memcg == largest
    )
    scope = {"oom.limit.scope": facts.enriched.limit_scope}
    return Finding(
        "contention",
        format_evidence(scope, facts.limit_evidence, *neighbours),
        f"The limit of {format_bytes(limit)} is shared, and {owner.label} used at least "
        f"{format_bytes(held[largest])} of it, more than the victim's cgroup. {remedy}, or raise "
        f"{limit_label(facts)}.",
    )


def rule_single_process(facts: AdviceInput) -> Finding | None:
    """Blame the victim if it used half of the limit."""
    held, limit = facts.victim.task.total_bytes, facts.limit_bytes
    if limit is None or held * 2 < limit:
        return None
    return Finding(
        "single_process",
        format_evidence(facts.limit_evidence, victim_evidence(facts.victim)),
        f"{process_label(facts.victim)} alone used {format_bytes(held)} of the limit of "
        f"{format_bytes(limit)}. Reduce its memory usage, or raise "
        f"{limit_label(facts)}{facts.reserve_phrase}.",
    )
