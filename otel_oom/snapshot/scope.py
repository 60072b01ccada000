"""Among whom the kernel chose."""

from __future__ import annotations

from typing import Final

from otel_oom.model.event_base import function
from otel_oom.model.events import OomKill
from otel_oom.model.types import Memcg

_OF_MEMCG: Final = "mem_cgroup_out_of_memory"


def oom_domain(kill: OomKill) -> Memcg | None:
    """The cgroup that the kernel chose in; ``None`` for the host.

    Where it can't be told which cgroup's limit was hit, it is the victim's own.
    """
    decision = kill.decision
    if decision and decision.memcg:
        return decision.memcg
    told = decision is not None and decision.constraint == "memcg"
    of_memcg = told or any(function(frame) == _OF_MEMCG for frame in kill.stack)
    return kill.memcg if of_memcg else None
