"""Advice on a kill, in one line, from the data of the kill alone.

Each rule is a function of the input; the first that applies wins. The rules are ordered by
certainty: the kernel's own message, the kind of memory, its users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from otel_oom.enrich.advice import cgroup, host, processes
from otel_oom.enrich.advice.inputs import AdviceInput, advice_input
from otel_oom.enrich.types import EnrichedKill

_Rule = Callable[[AdviceInput], str | None]

_CGROUP_RULES: Final[tuple[_Rule, ...]] = (
    cgroup.rule_memory_kind,
    processes.rule_protected_process,
    cgroup.rule_sibling_cgroup,
    cgroup.rule_single_process,
    processes.rule_many_processes,
)
_HOST_RULES: Final[tuple[_Rule, ...]] = (
    host.rule_kill_allocating_task,
    host.rule_memory_nodes,
    host.rule_fragmentation,
    host.rule_memory_kind,
    processes.rule_protected_process,
    host.rule_single_process,
    processes.rule_many_processes,
)


def advise(enriched: EnrichedKill) -> str | None:
    """Return the advice on a kill; ``None`` if no rule applies."""
    if enriched.stack_analysis.origin == "sysrq":
        return (
            "The kill was requested manually (sysrq f), so no limit is the cause. Find the process "
            "that wrote to /proc/sysrq-trigger."
        )
    facts = advice_input(enriched)
    if facts is None or enriched.outcome != "killed":
        return None
    if facts.limit_bytes is None and enriched.limit_scope != "host":
        return None
    rules = _HOST_RULES if facts.limit_bytes is None else _CGROUP_RULES
    return next(filter(None, (rule(facts) for rule in rules)), None)
