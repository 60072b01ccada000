"""Who used the memory: the largest processes among those that the kernel could choose from."""

from __future__ import annotations

from msgspec import Struct


class OomTask(Struct, frozen=True):
    """A process and what it held, in bytes: resident, in swap, and its page tables.

    Old kernels' logs tell neither of the last two. ``comm`` and ``memcg``, the path of its cgroup,
    are hostile.
    """

    tgid: int
    comm: str
    resident: int
    swap: int | None
    page_tables: int | None
    uid: int | None = None
    score_adj: int | None = None
    memcg: str | None = None

    @property
    def total_bytes(self) -> int:
        """All that its death would free, and by which the kernel ranks it (``oom_badness()``)."""
        return self.resident + (self.swap or 0) + (self.page_tables or 0)


class TaskList(Struct, frozen=True):
    """The largest processes of one cgroup, or of the host, at one moment; the largest first.

    ``memcg`` is the path of the cgroup, ``None`` for the host. ``boottime_ns`` is when they were
    looked at. ``count`` is how many processes were, ``left_out`` how many there was no time for.
    """

    memcg: str | None
    boottime_ns: int
    count: int
    skipped: int
    largest: tuple[OomTask, ...]
