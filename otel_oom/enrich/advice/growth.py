"""Rules for the growth of the usage up to the limit of a cgroup."""

from __future__ import annotations

from otel_oom.enrich.advice.inputs import AdviceInput, limit_label, process_label
from otel_oom.enrich.advice.runtimes import find_runtime_problem, format_runtime_advice
from otel_oom.enrich.finding import Cause, Finding, format_evidence, victim_evidence
from otel_oom.enrich.growth import Growth
from otel_oom.model.units import NS_PER_S, format_bytes, format_duration


def rule_leak(facts: AdviceInput) -> Finding | None:
    """Report a steady growth, with the victim where it used half of the limit."""
    match facts.enriched.growth:
        case Growth("leak", bytes_per_second=float(rate), duration_ns=int(duration_ns)) as growth:
            least = "at least " if growth.from_first_sample else ""
            phrase = (
                f"after its usage grew {format_bytes(round(rate))} a second for "
                f"{least}{format_duration(duration_ns)}. Find what keeps this memory"
            )
            remedy = f"Raising {limit_label(facts)} only delays the next kill."
            return _finding("leak", facts, growth, phrase, remedy)
    return None


def rule_spike(facts: AdviceInput) -> Finding | None:
    """Report a growth from below half to the limit within seconds."""
    match facts.enriched.growth:
        case Growth("spike", duration_ns=int(duration_ns)) as growth:
            phrase = f"which was reached within {format_duration(duration_ns)}"
            remedy = (
                "Look for one large request, file or batch, and handle it in parts, or raise "
                f"{limit_label(facts)}{facts.reserve_phrase}."
            )
            return _finding("spike", facts, growth, phrase, remedy)
    return None


def _finding(cause: Cause, facts: AdviceInput, growth: Growth, phrase: str, remedy: str) -> Finding:
    """Return the finding; the advice on a runtime's setting names victim and remedy better."""
    limit, used = facts.limit_bytes or 0, facts.victim.task.total_bytes
    rate, duration_ns = growth.bytes_per_second, growth.duration_ns
    subject = f"The cgroup used all of its limit of {format_bytes(limit)}"
    is_dominant, problem = used * 2 >= limit, find_runtime_problem(facts)
    if problem:
        remedy = format_runtime_advice(facts, problem)
    elif is_dominant:
        label = process_label(facts.victim)
        subject = f"{label} alone used {format_bytes(used)} of the limit of {format_bytes(limit)}"
    evidence = format_evidence(
        {
            "oom.growth.kind": growth.kind,
            "oom.growth.rate": None if rate is None else round(rate),
            "oom.growth.duration": None
            if duration_ns is None
            else round(duration_ns / NS_PER_S, 3),
        },
        facts.limit_evidence,
        victim_evidence(facts.victim) if is_dominant else {},
    )
    return Finding(cause, evidence, f"{subject}, {phrase}. {remedy}")
