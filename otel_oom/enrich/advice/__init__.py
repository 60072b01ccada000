"""The cause of a kill with its evidence and advice, from the data of the kill alone.

Each rule is a function of the input that returns a finding; the first that applies wins. The rules
are ordered by certainty: the kernel's own message, the kind of memory, its users. docs/causes.md
has them in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from otel_oom.enrich.advice import cgroup, growth, host, processes, runtimes
from otel_oom.enrich.advice.daemon import decide_userspace_cause, find_requested_kill
from otel_oom.enrich.advice.host import find_exhausted_host
from otel_oom.enrich.advice.inputs import AdviceInput, advice_input
from otel_oom.enrich.finding import UNKNOWN, Finding
from otel_oom.enrich.types import EnrichedKill

__all__ = ["decide_cause", "decide_userspace_cause"]

_Rule = Callable[[AdviceInput], Finding | None]

CGROUP_RULES: Final[tuple[_Rule, ...]] = (
    cgroup.rule_memory_kind,
    processes.rule_protected_process,
    cgroup.rule_sibling_cgroup,
    runtimes.rule_runtime_setting,
    growth.rule_leak,
    growth.rule_spike,
    runtimes.rule_runtime_memory,
    cgroup.rule_single_process,
    processes.rule_many_processes,
)
HOST_RULES: Final[tuple[_Rule, ...]] = (
    host.rule_kill_allocating_task,
    host.rule_memory_nodes,
    host.rule_fragmentation,
    host.rule_memory_kind,
    processes.rule_protected_process,
    runtimes.rule_runtime_setting,
    runtimes.rule_runtime_memory,
    host.rule_single_process,
    processes.rule_many_processes,
)
_POD_FIRST: Final = (
    "The cgroup of the pod was full before that of the container: its limit is the sum over the "
    "containers, unless the pod sets one."
)


def decide_cause(enriched: EnrichedKill) -> Finding | None:
    """Return the finding on a kill; ``None`` for a victim that was not killed."""
    if enriched.stack_analysis.origin == "sysrq":
        return find_requested_kill(enriched)
    if enriched.outcome != "killed":
        return None
    facts = advice_input(enriched)
    rules: Sequence[_Rule] = ()
    if facts and facts.limit_bytes is not None:
        rules = CGROUP_RULES
    elif enriched.limit_scope == "host":
        rules = HOST_RULES
    findings = (rule(facts) for rule in rules if facts)
    finding = next(filter(None, findings), None) or find_exhausted_host(enriched) or UNKNOWN
    if finding.advice and enriched.limit_scope == "pod":
        return replace(finding, advice=f"{finding.advice} {_POD_FIRST}")
    return finding
