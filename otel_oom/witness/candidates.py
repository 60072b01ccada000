"""Who used the memory: the largest processes among those that the kernel could choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from otel_oom.event import OomKill
from otel_oom.facts import Memcg, known
from otel_oom.incident import function

_OF_MEMCG: Final = "mem_cgroup_out_of_memory"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A process and what it held, in bytes: resident, in swap, and its page tables.

    ``comm`` and ``memcg``, the path of its cgroup, are hostile.
    """

    tgid: int
    comm: str
    resident: int
    swap: int
    page_tables: int
    uid: int | None = None
    score_adj: int | None = None
    memcg: str | None = None

    @property
    def held(self) -> int:
        """All that its death would free, and by which the kernel ranks it (``oom_badness()``)."""
        return self.resident + self.swap + self.page_tables


@dataclass(frozen=True, slots=True)
class Candidates:
    """The largest processes of one cgroup, or of the host, at one moment; the largest first.

    ``memcg`` is the path of the cgroup, ``None`` for the host. ``boottime_ns`` is when they were
    looked at. ``count`` is how many processes were, ``left_out`` how many there was no time for.
    """

    memcg: str | None
    boottime_ns: int
    count: int
    left_out: int
    largest: tuple[Candidate, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Candidates | None:
        """The candidates out of their JSON form, if there are any."""
        if not value:
            return None
        largest = tuple(known(Candidate, candidate) for candidate in value["largest"])
        return known(cls, {**value, "largest": largest})


def scope(kill: OomKill) -> Memcg | None:
    """The cgroup that the kernel chose in; ``None`` for the host.

    Where it can't be told which cgroup's limit was hit, it is the victim's own.
    """
    decision = kill.decision
    if decision and decision.memcg:
        return decision.memcg
    told = decision is not None and decision.constraint == "memcg"
    of_memcg = told or any(function(frame) == _OF_MEMCG for frame in kill.stack)
    return kill.memcg if of_memcg else None
