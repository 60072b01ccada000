"""One line of advice, out of what was seen alone; none where that says nothing.

Each rule is a function of the facts; the first that has something to say is heard. The order is
that of how sure it is: what the kernel itself said, what kind of memory it was, who had it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from otel_oom.enrich import EnrichedKill
from otel_oom.enrich.advice import cgroup, host, processes
from otel_oom.enrich.advice.inputs import AdviceInput, facts_of

_Rule = Callable[[AdviceInput], str | None]

_OF_MEMCG: Final[tuple[_Rule, ...]] = (
    cgroup.kind,
    processes.spared,
    cgroup.neighbours,
    cgroup.alone,
    processes.together,
)
_OF_HOST: Final[tuple[_Rule, ...]] = (
    host.allocating,
    host.nodes,
    host.fragmented,
    host.kind,
    processes.spared,
    host.alone,
    processes.together,
)


def advice(enriched: EnrichedKill) -> str | None:
    """What to do about a kill, in one line; ``None`` where the facts say nothing."""
    if enriched.origin.by == "sysrq":
        return (
            "It was asked for by hand (sysrq f) and says nothing of a limit: find out who wrote to "
            "/proc/sysrq-trigger."
        )
    facts = facts_of(enriched)
    if facts is None or enriched.outcome != "killed":
        return None
    rules = _OF_MEMCG if facts.limit is not None else _OF_HOST
    if facts.limit is None and enriched.limit_scope != "host":
        return None
    return next(filter(None, (rule(facts) for rule in rules)), None)
