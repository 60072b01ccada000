"""Rules for what a userspace OOM daemon killed, or had the kernel kill."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.advice.inputs import host_evidence
from otel_oom.enrich.finding import UNKNOWN, Evidence, Finding, format_evidence
from otel_oom.enrich.types import EnrichedKill, EnrichedUserspaceKill
from otel_oom.model.types import UserspaceOomDaemon

_HOST_REASONS: Final = {"memory_available", "memory_used", "swap_used"}
"""Reasons that are measured on the host as a whole; pressure is that of a cgroup."""
_REQUESTED_ADVICE: Final = (
    "The kill was requested manually (sysrq f), so no limit is the cause. Find the process that "
    "wrote to /proc/sysrq-trigger."
)


def decide_userspace_cause(enriched: EnrichedUserspaceKill) -> Finding:
    """Return the finding on a userspace kill, by the reason that its daemon logged.

    A message that no death confirms can be forged, and is no evidence.
    """
    if not enriched.verified:
        return UNKNOWN
    return _find_by_reason(enriched.event.killer, enriched) or UNKNOWN


def find_requested_kill(enriched: EnrichedKill) -> Finding:
    """Return the finding on a kill by sysrq, which a daemon can have requested."""
    killer = enriched.event.killer
    origin: Evidence = {"oom.decision.origin": "sysrq"}
    if killer is None:
        return Finding("requested", format_evidence(origin), _REQUESTED_ADVICE)
    name: Evidence = {"oom.killer.name": killer.name}
    return _find_by_reason(killer, enriched) or Finding("requested", format_evidence(origin, name))


def _find_by_reason(
    killer: UserspaceOomDaemon, enriched: EnrichedKill | EnrichedUserspaceKill
) -> Finding | None:
    if killer.reason not in _HOST_REASONS:
        return None
    values: Evidence = {
        "oom.killer.name": killer.name,
        "oom.killer.reason": killer.reason,
        "oom.killer.limit": killer.limit,
    }
    host = enriched.snapshot.host
    return Finding(
        "host_memory", format_evidence(values, host_evidence(host.memory if host else {}))
    )
