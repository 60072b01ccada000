"""The event of a cgroup that comes near its limit, before any kill."""

from __future__ import annotations

from typing import ClassVar

from otel_oom.model.event_base import OomEvent
from otel_oom.model.types import Capture, Memcg, MemcgUsage, TaskList


class NearLimit(OomEvent, frozen=True, kw_only=True):
    """A memory cgroup whose memory in use came near its limit.

    ``working_set`` is its usage without inactive page cache, in bytes, which reached
    ``threshold_percent`` of the limit. ``memcg_usage`` was read at the same time. ``tasks`` are the
    processes that the kernel would choose from. ``trigger_memcg`` is the same cgroup: there is no
    allocating task.
    """

    kind: ClassVar[str] = "near_limit"

    memcg: Memcg
    memcg_usage: MemcgUsage
    working_set: int
    threshold_percent: int
    tasks: TaskList | None = None
    capture: Capture = Capture("usage", "memory.usage", cpu=None, sequence=0)

    @property
    def identity_key(self) -> str:
        """The cgroup."""
        return f"near_limit/{self.memcg.path}"

    @property
    def timestamp_key(self) -> str:
        """The time of the sample, as no record of the kernel stands for it."""
        return str(self.boottime_ns)
