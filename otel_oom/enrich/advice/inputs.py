"""What is known of a kill, as the rules ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_oom.enrich import EnrichedKill
from otel_oom.enrich.badness import RankedTask
from otel_oom.model.text import quote_text
from otel_oom.model.types import Memcg

_PLENTY: Final = 10
"""A tenth of the host is enough not to be the reason of a kill."""


@dataclass(frozen=True, slots=True)
class AdviceInput:
    """What the rules look at.

    ``limit`` is in bytes, and ``None`` for the host's own memory; ``memcg`` is whose it was and
    ``parts`` what its memory was made of. ``largest`` is of the others.
    """

    enriched: EnrichedKill
    victim: RankedTask
    largest: RankedTask | None
    memcg: Memcg | None
    limit: int | None
    parts: Mapping[str, int]
    host: Mapping[str, int]

    @property
    def spare(self) -> int:
        """What the host had left without what the victim's death gave back, as far as is known."""
        return max(0, self.host.get("available", 0) - self.victim.candidate.total_bytes)

    @property
    def spare_is_plenty(self) -> bool:
        """Whether the host as a whole was not short of memory."""
        return bool(self.host) and self.spare * _PLENTY >= self.host.get("total", 0)


def facts_of(enriched: EnrichedKill) -> AdviceInput | None:
    """The facts of a kill; ``None`` where it was not seen who used the memory."""
    victim = next((one for one in enriched.candidates if one.killed), None)
    decision, witness = enriched.kill.decision, enriched.witness
    if victim is None:
        return None
    memcg = decision.memcg if decision else None
    limits = decision.memcg_usage if decision and memcg else None
    return AdviceInput(
        enriched=enriched,
        victim=victim,
        largest=next((one for one in enriched.candidates if not one.killed), None),
        memcg=memcg,
        limit=limits.limit if limits else None,
        parts=witness.limit_cgroup.stat if witness.limit_cgroup else {},
        host=witness.host.memory if witness.host else {},
    )


def who(one: RankedTask) -> str:
    """A process by name and id, whatever it is called."""
    return f"{quote_text(one.candidate.comm) or 'a process'} (pid {one.candidate.tgid})"


def whose(facts: AdviceInput) -> str:
    """The cgroup whose limit was hit."""
    return quote_text(facts.memcg.path) if facts.memcg else "the cgroup"
