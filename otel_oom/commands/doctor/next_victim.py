"""Who would be killed next: processes by the kernel's own score, and those that it spares.

``/proc/PID/oom_score`` is coarse, some 16 MiB a point on a host of 24 GiB. Where it does not tell
two apart, what ``oom_badness()`` (mm/oom_kill.c) sums up does: memory, swap and page tables, and
``oom_score_adj`` thousandths of all memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.linux.oom_badness import OOM_SCORE_ADJ_MIN, is_unkillable, oom_badness
from otel_oom.linux.process import ProcessDir

_MOST_TIED: Final = 256
"""So many of one score are told apart."""


@dataclass(frozen=True, slots=True)
class ProcessScore:
    """A process as the kernel would see it now.

    ``held`` is what its death would free, in bytes. ``score`` is its ``oom_score``, ``None`` for
    one that is never chosen. ``cgroups`` is the text of its ``/proc/PID/cgroup``. ``comm`` and
    ``cgroups`` are hostile.
    """

    pid: int
    comm: str
    held: int
    score: int | None
    score_adj: int
    cgroups: str

    def badness(self, capacity: int) -> int:
        """Return what the kernel would rank it by if ``capacity`` bytes are available."""
        return oom_badness(self.held, self.score_adj, capacity) or 0


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """Looks at the processes of one /proc."""

    proc: Path = Path("/proc")

    def next(self, capacity: int, most: int) -> list[ProcessScore]:
        """Those that would be killed first, the first first.

        Args:
            capacity: the host's memory and swap in bytes.
            most: how many.
        """
        scores = sorted(self._scores(self._pids(), "oom_score", lambda score: score > 0))
        scores.reverse()
        # All of the last one's score may be it.
        last = scores[most - 1][0] if len(scores) >= most else 0
        tied = [pid for score, pid in scores[:_MOST_TIED] if score >= last]
        return self._first(tied, capacity, most)

    def next_of(self, pids: Iterable[int], capacity: int) -> ProcessScore | None:
        """The one of some processes that would be killed first, if any of them may be."""
        some = list(pids)[:_MOST_TIED]
        return next(iter(self._first(some, capacity, 1)), None)

    def spared(self, most: int) -> tuple[list[ProcessScore], int]:
        """Those that are never chosen, the largest first; and how many there are."""
        pids = (
            pid
            for _, pid in self._scores(
                self._pids(), "oom_score_adj", lambda adj: adj == OOM_SCORE_ADJ_MIN
            )
        )
        found = [one for one in map(self._standing, pids) if one and one.held]
        found.sort(key=lambda one: one.held, reverse=True)
        return found[:most], len(found)

    def _first(self, pids: Iterable[int], capacity: int, most: int) -> list[ProcessScore]:
        found = [one for one in map(self._standing, pids) if one and one.score is not None]
        found.sort(key=lambda one: one.badness(capacity), reverse=True)
        return found[:most]

    def _pids(self) -> list[int]:
        found = (int(name) for name in os.listdir(self.proc) if name.isdecimal())  # noqa: PTH208  a name is enough
        # This one is here only to look.
        return [pid for pid in found if pid != os.getpid()]

    def _scores(
        self, pids: Iterable[int], name: str, keep: Callable[[int], bool]
    ) -> Iterable[tuple[int, int]]:
        """A number of each process and its id, of those whose number is to be kept."""
        for pid in pids:
            number = ProcessDir(pid, self.proc).read_number(name)
            if number is not None and keep(number):
                yield number, pid

    def _standing(self, pid: int) -> ProcessScore | None:
        """A process by its own account; ``None`` for one that is gone, or has no memory."""
        process = ProcessDir(pid, self.proc)
        status = process.read_status()
        score, score_adj = process.read_number("oom_score"), process.read_number("oom_score_adj")
        if status is None or not status.total_bytes or score is None or score_adj is None:
            return None
        return ProcessScore(
            pid=pid,
            comm=status.comm,
            held=status.total_bytes,
            score=None if is_unkillable(pid, score_adj) else score,
            score_adj=score_adj,
            cgroups=process.read_text("cgroup") or "",
        )
