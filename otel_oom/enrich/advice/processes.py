"""Rules for processes, at the limit of a cgroup and of the host alike."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.advice.inputs import AdviceInput, memcg_label, process_label
from otel_oom.model.units import format_bytes

_MIN_PROCESSES: Final = 8


def rule_protected_process(facts: AdviceInput) -> str | None:
    """Name a larger process that its oom_score_adj protected."""
    if facts.largest is None:
        return None
    victim, largest = facts.victim.task, facts.largest.task
    if (
        largest.total_bytes <= victim.total_bytes
        or largest.score_adj is None
        or victim.score_adj is None
    ):
        return None
    if largest.score_adj >= victim.score_adj:
        return None
    return (
        f"{process_label(facts.largest)} used more, {format_bytes(largest.total_bytes)}, but its "
        f"oom_score_adj of {largest.score_adj} against {victim.score_adj} protected it. Change "
        "that if it is not intended, or reduce its memory usage."
    )


def rule_many_processes(facts: AdviceInput) -> str | None:
    """Report many processes of which none is large."""
    tasks, held = facts.enriched.event.tasks, facts.victim.task.total_bytes
    largest = max(held, facts.largest.task.total_bytes if facts.largest else 0)
    limit = facts.limit_bytes
    bound = facts.host_memory.get("total", 0) if limit is None else limit
    if tasks is None or tasks.skipped or tasks.count < _MIN_PROCESSES or largest * 4 >= bound:
        return None
    of_limit = (
        f"host's {format_bytes(bound)}" if limit is None else f"limit of {format_bytes(bound)}"
    )
    remedy = (
        "give the host more memory" if limit is None else f"raise the limit of {memcg_label(facts)}"
    )
    return (
        f"No process dominates: the largest of {tasks.count} used {format_bytes(largest)} of the "
        f"{of_limit}. Run fewer processes, or {remedy}."
    )
