"""The relation of the limit that was hit to the victim."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.kubernetes import is_pod_cgroup
from otel_oom.enrich.stack_analysis import StackAnalysis
from otel_oom.model.events import OomKill

_HOST_CONSTRAINTS: Final = {"none", "cpuset", "memory_policy"}


def limit_scope(kill: OomKill, stack_analysis: StackAnalysis) -> str | None:
    """Return ``own``, ``pod``, ``ancestor`` or ``host``; ``None`` if it is not known."""
    if kill.decision is None:
        return "host" if stack_analysis.origin in {"host", "sysrq", "page_fault"} else None
    hit, own = kill.decision.memcg, kill.memcg
    if hit is None:
        # The kernel log can omit the cgroup.
        return "host" if kill.decision.constraint in _HOST_CONSTRAINTS else None
    if own is None or hit.path_cut or own.path_cut:
        return None
    if hit.path == own.path:
        return "own"
    if not own.path.startswith(f"{hit.path.rstrip('/')}/"):
        return None
    return "pod" if is_pod_cgroup(hit.path.rpartition("/")[2]) else "ancestor"
