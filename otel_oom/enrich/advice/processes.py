"""Rules for processes, at the limit of a cgroup and of the host alike."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.advice.inputs import AdviceInput, limit_label, process_label
from otel_oom.enrich.finding import (
    Finding,
    format_evidence,
    task_evidence,
    victim_evidence,
)
from otel_oom.model.units import format_bytes

_MIN_PROCESSES: Final = 8


def rule_protected_process(facts: AdviceInput) -> Finding | None:
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
    score_adj = {"oom.victim.score_adj": victim.score_adj}
    return Finding(
        "spared_process",
        format_evidence(victim_evidence(facts.victim), score_adj, task_evidence(facts.largest)),
        f"{process_label(facts.largest)} used more, {format_bytes(largest.total_bytes)}, but its "
        f"oom_score_adj of {largest.score_adj} against {victim.score_adj} protected it. Change "
        "that if it is not intended, or reduce its memory usage.",
    )


def rule_many_processes(facts: AdviceInput) -> Finding | None:
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
    remedy = "give the host more memory" if limit is None else f"raise {limit_label(facts)}"
    ranked = facts.enriched.ranked_tasks[0]
    return Finding(
        "host_memory" if limit is None else "contention",
        format_evidence(
            facts.limit_evidence,
            {"oom.largest_task.memory.resident": ranked.task.resident},
            {"oom.tasks.count": tasks.count},
        ),
        f"No process dominates: the largest of {tasks.count} used {format_bytes(largest)} of the "
        f"{of_limit}. Run fewer processes, or {remedy}.",
    )
