"""Whose limit was hit: the victim's own, its pod's, another ancestor's, or the host's."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.kubernetes import is_pod
from otel_oom.enrich.stack_analysis import StackAnalysis
from otel_oom.model.events import OomKill

_OF_HOST: Final = {"none", "cpuset", "memory_policy"}


def limit_scope(kill: OomKill, origin: StackAnalysis) -> str | None:
    """``own``, ``pod``, ``ancestor`` or ``host``; ``None`` where it can't be told."""
    if kill.decision is None:
        return "host" if origin.by in {"host", "sysrq", "page_fault"} else None
    hit, own = kill.decision.memcg, kill.memcg
    if hit is None:
        # The kernel's log can leave out which cgroup it was.
        return "host" if kill.decision.constraint in _OF_HOST else None
    if own is None or hit.path_cut or own.path_cut:
        return None
    if hit.path == own.path:
        return "own"
    if not own.path.startswith(f"{hit.path.rstrip('/')}/"):
        return None
    return "pod" if is_pod(hit.path.rpartition("/")[2]) else "ancestor"
