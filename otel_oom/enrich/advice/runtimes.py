"""Rules for the memory settings of the victim's runtime.

The victim's owner chose them: they are numbers, by the allow-list, and say what the program may
have done, not what it did.
"""

from __future__ import annotations

from otel_oom.enrich.advice.inputs import AdviceInput, limit_label, process_label
from otel_oom.enrich.finding import Cause, Finding, format_evidence, victim_evidence
from otel_oom.enrich.runtimes import RuntimeFinding, check_runtime
from otel_oom.enrich.runtimes.bound import Memory
from otel_oom.model.units import format_bytes


def rule_runtime_setting(facts: AdviceInput) -> Finding | None:
    """Point to a bound of a runtime that does not fit the limit."""
    found = find_runtime_problem(facts)
    if found is None or (found.problem != "exceeds_limit" and found.bound.is_default):
        return None
    return None if found.problem == "outside_bound" else _finding("runtime_setting", facts, found)


def rule_runtime_memory(facts: AdviceInput) -> Finding | None:
    """Point to a runtime that has no bound, or to its memory outside of one."""
    found = find_runtime_problem(facts)
    host = facts.limit_bytes is None
    return _finding("host_memory" if host else "single_process", facts, found) if found else None


def find_runtime_problem(facts: AdviceInput) -> RuntimeFinding | None:
    """Return the problem of the victim's runtime; ``None`` unless the victim used half of it."""
    runtime, own = facts.enriched.snapshot.runtime, facts.enriched.event.memcg_usage
    host = facts.host_memory.get("total", 0)
    limit = host if facts.limit_bytes is None else facts.limit_bytes
    used = facts.victim.task.total_bytes
    if runtime is None or not limit or used * 2 < limit:
        return None
    own_limit = own.limit if own and own.limit is not None else limit
    return check_runtime(runtime, Memory(limit, min(limit, own_limit), host), used)


def format_runtime_advice(facts: AdviceInput, found: RuntimeFinding) -> str:
    """Return a sentence with the setting and both sizes, and one with a value that fits."""
    bound, host = found.bound, facts.limit_bytes is None
    size = format_bytes(found.limit_bytes)
    limit = f"host's {size}" if host else f"limit of {size}"
    used = f"{process_label(facts.victim)} used {format_bytes(found.used_bytes)} of the {limit}"
    allowed = f"{bound.subject} may take {format_bytes(bound.max_bytes or 0)} ({bound.setting})"
    raised = "give the host more memory" if host else f"raise {limit_label(facts)}"
    if found.problem == "outside_bound":
        outside = format_bytes(found.used_bytes - (bound.max_bytes or 0))
        return (
            f"{_capitalize(allowed)}, but {used}: at least {outside} were outside of it, in "
            f"{bound.reserve.users}. Reduce these, or {raised}."
        )
    if found.problem == "unbounded":
        reason = f"{_capitalize(bound.subject)} has no bound ({bound.setting})"
        return f"{reason}, and {used}. Set {bound.fitting}, or {raised}."
    rest = found.remaining_bytes
    left = f"only {format_bytes(rest)} are left" if rest else "nothing is left"
    problem = f"{_capitalize(allowed)} of the {limit}: {left} for {bound.reserve.users}."
    fitting = found.fitting_limit_bytes
    raised = f"{raised} to {format_bytes(fitting)}" if fitting and not host else raised
    remedy = f"Set {bound.fitting}, or {raised}" if bound.fitting else _capitalize(raised)
    return f"{problem} {remedy}."


def _finding(cause: Cause, facts: AdviceInput, found: RuntimeFinding) -> Finding:
    runtime = facts.enriched.snapshot.runtime
    setting = None if found.bound.is_default else found.bound.setting
    evidence = format_evidence(
        facts.limit_evidence,
        victim_evidence(facts.victim),
        {
            "process.runtime.name": runtime.name if runtime else None,
            "oom.victim.runtime.settings": setting,
        },
    )
    return Finding(cause, evidence, format_runtime_advice(facts, found))


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
