"""The input of the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.enrich.badness import RankedTask
from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.text import quote_text
from otel_oom.model.types import Memcg

_AMPLE_SHARE: Final = 10
"""With a tenth of its memory available, a host is not short of memory."""


class AdviceInput(Struct, frozen=True):
    """A kill as the rules need it.

    ``limit_bytes`` is ``None`` for the host's own memory; ``memcg`` is the cgroup with that limit,
    and ``memcg_stat`` its ``memory.stat``. ``largest`` is the largest process except the victim.
    """

    enriched: EnrichedKill
    victim: RankedTask
    largest: RankedTask | None
    memcg: Memcg | None
    limit_bytes: int | None
    memcg_stat: Mapping[str, int]
    host_memory: Mapping[str, int]

    @property
    def available_bytes(self) -> int:
        """The host's available memory, without the victim's, which may be freed already."""
        return max(0, self.host_memory.get("available", 0) - self.victim.task.total_bytes)

    @property
    def host_has_memory(self) -> bool:
        """True if the host as a whole was not short of memory."""
        total = self.host_memory.get("total", 0)
        return bool(self.host_memory) and self.available_bytes * _AMPLE_SHARE >= total


def advice_input(enriched: EnrichedKill) -> AdviceInput | None:
    """Return the input of the rules; ``None`` without a process list."""
    victim = next((ranked for ranked in enriched.ranked_tasks if ranked.is_victim), None)
    decision, snapshot = enriched.event.decision, enriched.snapshot
    if victim is None:
        return None
    memcg = decision.memcg if decision else None
    limits = decision.memcg_usage if decision and memcg else None
    return AdviceInput(
        enriched=enriched,
        victim=victim,
        largest=next((ranked for ranked in enriched.ranked_tasks if not ranked.is_victim), None),
        memcg=memcg,
        limit_bytes=limits.limit if limits else None,
        memcg_stat=snapshot.limit_cgroup.stat if snapshot.limit_cgroup else {},
        host_memory=snapshot.host.memory if snapshot.host else {},
    )


def process_label(ranked: RankedTask) -> str:
    """Return name and pid of a process."""
    return f"{quote_text(ranked.task.comm) or 'a process'} (pid {ranked.task.tgid})"


def memcg_label(facts: AdviceInput) -> str:
    """Return the path of the cgroup whose limit was hit."""
    return quote_text(facts.memcg.path) if facts.memcg else "the cgroup"
