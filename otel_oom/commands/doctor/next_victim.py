"""Processes by the kernel's own score: the next victims, and the protected ones.

``/proc/PID/oom_score`` is coarse, some 16 MiB a point on a host of 24 GiB. Equal scores are ordered
by what ``oom_badness()`` (mm/oom_kill.c) adds up: memory, swap and page tables, and
``oom_score_adj`` thousandths of all memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.linux.oom_badness import OOM_SCORE_ADJ_MIN, is_unkillable, oom_badness
from otel_oom.linux.process import ProcessDir

_MAX_TIED: Final = 256
"""Processes of one score that are read in detail."""


@dataclass(frozen=True, slots=True)
class ProcessScore:
    """A process as the kernel would score it now.

    ``total_bytes`` is what its death would free. ``score`` is its ``oom_score``, ``None`` if it is
    never chosen. ``cgroups`` is the text of its ``/proc/PID/cgroup``. ``comm`` and ``cgroups`` are
    hostile.
    """

    pid: int
    comm: str
    total_bytes: int
    score: int | None
    score_adj: int
    cgroups: str

    def badness(self, capacity: int) -> int:
        """Return the kernel's badness in pages; ``capacity`` is the limit, in bytes."""
        return oom_badness(self.total_bytes, self.score_adj, capacity) or 0


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """Scores the processes of a /proc, except this one."""

    proc: Path = Path("/proc")

    def first_victims(self, capacity: int, count: int) -> list[ProcessScore]:
        """Return the processes that would be killed first, in this order.

        Args:
            capacity: the host's memory and swap in bytes.
            count: how many.
        """
        scores = sorted(self._numbers("oom_score", lambda score: score > 0), reverse=True)
        # Any process with the same score as the last one may come before it.
        lowest = scores[count - 1][0] if len(scores) >= count else 0
        tied = [pid for score, pid in scores[:_MAX_TIED] if score >= lowest]
        return self._ordered(tied, capacity)[:count]

    def first_victim_of(self, pids: Iterable[int], capacity: int) -> ProcessScore | None:
        """Return the one of some processes that would be killed first, if any may be killed."""
        return next(iter(self._ordered(list(pids)[:_MAX_TIED], capacity)), None)

    def protected(self, count: int) -> tuple[list[ProcessScore], int]:
        """Return the largest processes that are never chosen, and the number of all of them."""
        pids = self._numbers("oom_score_adj", lambda adj: adj == OOM_SCORE_ADJ_MIN)
        scores = list(self._read_scores(pid for _, pid in pids))
        scores.sort(key=lambda score: score.total_bytes, reverse=True)
        return scores[:count], len(scores)

    def _ordered(self, pids: Iterable[int], capacity: int) -> list[ProcessScore]:
        scores = [score for score in self._read_scores(pids) if score.score is not None]
        return sorted(scores, key=lambda score: score.badness(capacity), reverse=True)

    def _numbers(self, name: str, wanted: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
        """Yield the number in the file ``name`` of each process where it is wanted, and the pid."""
        for entry in os.listdir(self.proc):  # noqa: PTH208  a name is enough
            pid = int(entry) if entry.isdecimal() else os.getpid()
            # This process is gone after the command.
            number = None if pid == os.getpid() else ProcessDir(pid, self.proc).read_number(name)
            if number is not None and wanted(number):
                yield number, pid

    def _read_scores(self, pids: Iterable[int]) -> Iterator[ProcessScore]:
        """Yield the processes that still exist and have memory."""
        for pid in pids:
            process = ProcessDir(pid, self.proc)
            status = process.read_status()
            score, score_adj = (
                process.read_number("oom_score"),
                process.read_number("oom_score_adj"),
            )
            if status is None or not status.total_bytes or score is None or score_adj is None:
                continue
            yield ProcessScore(
                pid=pid,
                comm=status.comm,
                total_bytes=status.total_bytes,
                score=None if is_unkillable(pid, score_adj) else score,
                score_adj=score_adj,
                cgroups=process.read_text("cgroup") or "",
            )
