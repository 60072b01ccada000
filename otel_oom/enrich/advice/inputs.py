"""The input of the rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.enrich.advice.limit_owner import find_limit_owner
from otel_oom.enrich.badness import RankedTask
from otel_oom.enrich.finding import Evidence
from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.events import OomKill
from otel_oom.model.text import quote_text
from otel_oom.model.types import Memcg
from otel_oom.model.units import PAGE_BYTES, format_bytes

_AMPLE_SHARE: Final = 10
"""With a tenth of its memory available, a host is not short of memory."""
_FULL_SHARE: Final = 0.95
"""CPUs cache charges of a cgroup, so it may be below its limit by them."""
_FREE_PAGES: Final = re.compile(r"(?:^|\\x0a|#012) *free:([0-9]{1,15}) free_pcp:", re.MULTILINE)
"""The host's free pages in a report (``show_free_areas()`` in mm/show_mem.c).

They are in a record of several lines: the kernel, or rsyslog, escapes the newlines in it.
"""


class AdviceInput(Struct, frozen=True):
    """A kill as the rules need it.

    ``limit_bytes`` is ``None`` for the host's own memory; ``memcg`` is the cgroup with that limit,
    and ``memcg_stat`` its ``memory.stat``; their attributes begin with ``memcg_prefix``.
    ``largest`` is the largest process except the victim.
    """

    enriched: EnrichedKill
    victim: RankedTask
    largest: RankedTask | None
    memcg: Memcg | None
    limit_bytes: int | None
    memcg_stat: Mapping[str, int]
    host_memory: Mapping[str, int]
    memcg_prefix: str = "oom.limit.memcg"

    @property
    def host_evidence(self) -> Evidence:
        """The host's memory."""
        return host_evidence(self.host_memory)

    @property
    def limit_evidence(self) -> Evidence:
        """The limit of the cgroup, or the host's memory."""
        if self.limit_bytes is None:
            return self.host_evidence
        return {f"{self.memcg_prefix}.limit": self.limit_bytes}

    @property
    def available_bytes(self) -> int:
        """The host's available memory at the kill, at least."""
        return least_available_bytes(
            self.host_memory, self.victim.task.total_bytes, self.enriched.event.original
        )

    @property
    def host_has_memory(self) -> bool:
        """True if the host as a whole was not short of memory."""
        total = self.host_memory.get("total", 0)
        return bool(self.host_memory) and is_ample(self.available_bytes, total)

    @property
    def reserve_phrase(self) -> str:
        """The host's available memory, in parentheses, where it is as much as the limit."""
        available = self.available_bytes
        is_ample = self.limit_bytes is not None and available >= self.limit_bytes
        return f" (the host had {format_bytes(available)} available)" if is_ample else ""


def advice_input(enriched: EnrichedKill) -> AdviceInput | None:
    """Return the input of the rules; ``None`` without a process list.

    Without a decision, a cgroup at its own limit is the one whose limit was hit.
    """
    victim = next((ranked for ranked in enriched.ranked_tasks if ranked.is_victim), None)
    event, snapshot = enriched.event, enriched.snapshot
    if victim is None:
        return None
    memcg, usage, stats, prefix = None, None, snapshot.limit_cgroup, "oom.limit.memcg"
    if event.decision:
        memcg, usage = event.decision.memcg, event.decision.memcg_usage
    elif enriched.stack_analysis.origin == "memcg" and _is_at_own_limit(event):
        memcg, usage, stats = event.memcg, event.memcg_usage, snapshot.victim_cgroup
        prefix = "oom.victim.memcg"
    return AdviceInput(
        enriched=enriched,
        victim=victim,
        largest=next((ranked for ranked in enriched.ranked_tasks if not ranked.is_victim), None),
        memcg=memcg,
        limit_bytes=usage.limit if usage and memcg else None,
        memcg_stat=stats.stat if stats else {},
        host_memory=snapshot.host.memory if snapshot.host else {},
        memcg_prefix=prefix,
    )


def _is_at_own_limit(kill: OomKill) -> bool:
    """Return true if the trigger's cgroup is the victim's, and full.

    The kernel charges the own cgroup first (``page_counter_try_charge()`` in mm/page_counter.c).
    """
    usage, memcg, trigger_memcg = kill.memcg_usage, kill.memcg, kill.trigger_memcg
    if memcg is None or usage is None or usage.usage is None or not usage.limit:
        return False
    is_same = trigger_memcg is None or trigger_memcg.path == memcg.path
    return is_same and usage.usage >= usage.limit * _FULL_SHARE


def least_available_bytes(memory: Mapping[str, int], victim_bytes: int, report: str | None) -> int:
    """Return the least memory in bytes that the host had available when the kernel killed.

    The look after the mark may count the victim's memory as available, so it is without that; what
    the report counts as free was so before the kill.
    """
    free = _FREE_PAGES.search(report or "")
    free_bytes = int(free[1]) * PAGE_BYTES if free else 0
    return max(0, memory.get("available", 0) - victim_bytes, free_bytes)


def is_ample(available_bytes: int, total_bytes: int) -> bool:
    """Return true if a host with so much available memory is not short of it."""
    return available_bytes * _AMPLE_SHARE >= total_bytes


def host_evidence(memory: Mapping[str, int]) -> Evidence:
    """Return the host's memory as evidence."""
    return {
        "oom.host.memory.total": memory.get("total"),
        "oom.host.memory.available": memory.get("available"),
    }


def process_label(ranked: RankedTask) -> str:
    """Return name and pid of a process."""
    return f"{quote_text(ranked.task.comm) or 'a process'} (pid {ranked.task.tgid})"


def limit_label(facts: AdviceInput) -> str:
    """Return the setting of the limit that was hit, and whose it is."""
    return str(find_limit_owner(facts.enriched, facts.memcg.path)) if facts.memcg else "the limit"
