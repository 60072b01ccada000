"""Who would be killed next: processes by the kernel's own score, and those that it spares.

``/proc/PID/oom_score`` is coarse, some 16 MiB a point on a host of 24 GiB. Where it does not tell
two apart, what ``oom_badness()`` (mm/oom_kill.c) sums up does: memory, swap and page tables, and
``oom_score_adj`` thousandths of all memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs as proc_file
from otel_oom.linux.process import name_of

_READ_BYTES: Final = 4096
_MOST_TIED: Final = 256
"""So many of one score are told apart."""
_SPARED: Final = -1000
_SHARES: Final = 1000
_KB: Final = 1024
_STATUS: Final = re.compile(r"^(Name|VmRSS|VmSwap|VmPTE):[\t ]*(.*)$", re.MULTILINE)


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

    def points(self, capacity: int) -> float:
        """What the kernel would weigh it by, in bytes, where ``capacity`` bytes can be had."""
        return self.held + self.score_adj * capacity / _SHARES


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
            for _, pid in self._scores(self._pids(), "oom_score_adj", lambda adj: adj == _SPARED)
        )
        found = [one for one in map(self._standing, pids) if one and one.held]
        found.sort(key=lambda one: one.held, reverse=True)
        return found[:most], len(found)

    def _first(self, pids: Iterable[int], capacity: int, most: int) -> list[ProcessScore]:
        found = [one for one in map(self._standing, pids) if one and one.score is not None]
        found.sort(key=lambda one: one.points(capacity), reverse=True)
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
            number = self._number(pid, name)
            if number is not None and keep(number):
                yield number, pid

    def _standing(self, pid: int) -> ProcessScore | None:
        """A process by its own account; ``None`` for one that is gone, or has no memory."""
        status = dict(_STATUS.findall(self._read(pid, "status")))
        held = sum(_bytes(status.get(name, "")) for name in ("VmRSS", "VmSwap", "VmPTE"))
        score, adjusted = self._number(pid, "oom_score"), self._number(pid, "oom_score_adj")
        if not held or score is None or adjusted is None:
            return None
        never = adjusted == _SPARED or pid == 1
        return ProcessScore(
            pid=pid,
            comm=name_of(status.get("Name", "")),
            held=held,
            score=None if never else score,
            score_adj=adjusted,
            cgroups=self._read(pid, "cgroup"),
        )

    def _number(self, pid: int, name: str) -> int | None:
        text = self._read(pid, name).strip()
        return int(text) if text.removeprefix("-").isdecimal() else None

    def _read(self, pid: int, name: str) -> str:
        return proc_file.read(f"{self.proc}/{pid}/{name}", _READ_BYTES) or ""


def _bytes(size: str) -> int:
    number = size.removesuffix(" kB")
    return int(number) * _KB if number.isdecimal() else 0
