"""Advice on who had the memory, of a cgroup and of the host alike."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.advice.inputs import AdviceInput, who, whose
from otel_oom.model.units import format_bytes

_MANY: Final = 8


def spared(facts: AdviceInput) -> str | None:
    """A larger one was not chosen, for it is adjusted."""
    victim, largest = facts.victim.candidate, facts.largest.candidate if facts.largest else None
    if largest is None or largest.total_bytes <= victim.total_bytes:
        return None
    if largest.score_adj is None or victim.score_adj is None:
        return None
    if largest.score_adj >= victim.score_adj or facts.largest is None:
        return None
    return (
        f"{who(facts.largest)} held more, {format_bytes(largest.total_bytes)}, and was spared by "
        f"its oom_score_adj of {largest.score_adj} against {victim.score_adj}: change that if it "
        "is not what you want, or have it use less."
    )


def together(facts: AdviceInput) -> str | None:
    """Many processes, none of them large."""
    seen, held = facts.enriched.witness.tasks, facts.victim.candidate.total_bytes
    largest = max(held, facts.largest.candidate.total_bytes if facts.largest else 0)
    bound = facts.limit if facts.limit is not None else facts.host.get("total", 0)
    if seen is None or seen.skipped or seen.count < _MANY or largest * 4 >= bound:
        return None
    if facts.limit is None:
        return (
            f"No process stands out: of {seen.count}, the largest held {format_bytes(largest)} of "
            f"the host's {format_bytes(bound)}; have fewer of them, or give the host more memory."
        )
    return (
        f"No process stands out: of {seen.count}, the largest held {format_bytes(largest)} of the "
        f"limit of {format_bytes(bound)}; have fewer of them, or raise the limit of {whose(facts)}."
    )
