"""Processes by the kernel's own score: the next victims, and the protected ones.

``/proc/PID/oom_score`` is coarse, some 16 MiB a point on a host of 24 GiB. Equal scores are ordered
by ``oom_badness()`` (mm/oom_kill.c).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux.oom_badness import OOM_SCORE_ADJ_MIN, is_unkillable, oom_badness
from otel_oom.linux.process import ProcessDir, parse_cgroups

_MAX_TIED: Final = 256
"""Processes of one score that are read in detail."""


class ProcessScore(Struct, frozen=True):
    """A process as the kernel would score it now; ``comm`` and ``cgroup`` are hostile.

    ``total_bytes`` is what its death would free. ``oom_score`` is ``None`` for a process that is
    never chosen. ``owner`` is its container or unit.
    """

    pid: int
    comm: str
    total_bytes: int
    oom_score: int | None
    oom_score_adj: int
    cgroup: str
    owner: str | None = None

    def badness(self, capacity: int) -> int:
        """Return the kernel's badness in pages; ``capacity`` is the limit, in bytes."""
        return oom_badness(self.total_bytes, self.oom_score_adj, capacity) or 0


class ProcessTable(Struct, frozen=True):
    """Table of the processes of a /proc with their scores, except this one."""

    proc: Path = Path("/proc")

    def first_victims(self, capacity: int, count: int) -> list[ProcessScore]:
        """Return the processes that would be killed first, in this order.

        ``capacity`` is the host's memory and swap in bytes.
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
        scores = [score for score in self._read_scores(pids) if score.oom_score is not None]
        return sorted(scores, key=lambda score: score.badness(capacity), reverse=True)

    def _numbers(self, name: str, wanted: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
        """Yield the wanted numbers in the files ``name``, each with the process id."""
        for entry in os.listdir(self.proc):  # noqa: PTH208  a name is enough
            # This process is gone after the command.
            if entry.isdecimal() and int(entry) != os.getpid():
                number = ProcessDir(entry, self.proc).read_number(name)
                if number is not None and wanted(number):
                    yield number, int(entry)

    def _read_scores(self, pids: Iterable[int]) -> Iterator[ProcessScore]:
        """Yield the processes that still exist and have memory."""
        for pid in pids:
            process = ProcessDir(pid, self.proc)
            status = process.read_status()
            score, adj = process.read_number("oom_score"), process.read_number("oom_score_adj")
            if status is None or not status.total_bytes or score is None or adj is None:
                continue
            # The longest path has most detail; cgroup v1 has one for each hierarchy.
            paths = [entry.path for entry in parse_cgroups(process.read_text("cgroup") or "")]
            yield ProcessScore(
                pid=pid,
                comm=status.comm,
                total_bytes=status.total_bytes,
                oom_score=None if is_unkillable(pid, adj) else score,
                oom_score_adj=adj,
                cgroup=max(paths, key=len, default=""),
            )
