"""The kernel's badness of a process, by which it chooses a victim.

Source: ``oom_badness()`` and ``oom_unkillable_task()`` of mm/oom_kill.c.
"""

from __future__ import annotations

from typing import Final

from otel_oom.model.units import PAGE_BYTES

OOM_SCORE_ADJ_MIN: Final = -1000
"""The ``oom_score_adj`` of a process that the kernel never chooses (include/uapi/linux/oom.h)."""

_OOM_SCORE_ADJ_MAX: Final = 1000
_INIT: Final = 1


def is_unkillable(tgid: int | None, score_adj: int) -> bool:
    """Return whether the kernel never chooses this process: init, or protected by its score."""
    return tgid == _INIT or score_adj == OOM_SCORE_ADJ_MIN


def oom_badness(total_bytes: int, score_adj: int, capacity: int | None) -> int | None:
    """Return the badness in pages; ``None`` if it depends on an unknown ``capacity``.

    ``total_bytes`` are resident memory, swap and page tables of the process, ``score_adj`` is in
    thousandths of the capacity: the cgroup's limit, or the host's memory and swap (``totalpages``).
    """
    pages = total_bytes // PAGE_BYTES
    if not score_adj:
        return pages
    if capacity is None:
        return None
    return pages + score_adj * (capacity // PAGE_BYTES // _OOM_SCORE_ADJ_MAX)
