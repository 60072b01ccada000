"""The report's table of the processes that the kernel could choose from (dump_tasks()).

Its columns are told by its first line and have changed with the kernels: ``cpu oom_adj`` (2.6.25),
``oom_score_adj`` beside them (2.6.36), ``nr_ptes swapents`` (3.7), ``nr_pmds`` (4.0),
``pgtables_bytes`` (4.15), ``rss_anon rss_file rss_shmem`` (6.8). Sizes are in pages, whose size the
log does not tell: it is known by a process that another line tells in kB.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import Final

from otel_oom.linux.kernel_log.pattern import pattern
from otel_oom.model.units import PAGE_BYTES

MOST_LARGEST: Final = 11
"""The ten largest beside the victim."""
_MOST_SIZES: Final = 4096
_MOST_THREADS: Final = 256
_PAGES: Final = frozenset({1 << 12, 1 << 13, 1 << 14, 1 << 16, 1 << 18})
_USERS: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Row:
    """A process: ``tid`` is that of a thread which has memory, sizes are in pages.

    ``page_table_bytes`` are told instead of ``page_table_pages`` by newer kernels.
    """

    tid: int
    uid: int
    tgid: int
    rss: int
    comm: str
    swap: int | None = None
    page_table_pages: int | None = None
    page_table_bytes: int | None = None
    score_adj: int | None = None

    @property
    def held(self) -> int:
        """About what its death would free, in pages."""
        tables = self.page_table_pages or (self.page_table_bytes or 0) // PAGE_BYTES
        return self.rss + (self.swap or 0) + tables


@dataclass(frozen=True, slots=True)
class Table:
    """The largest processes of a table, the largest first, out of ``count``.

    ``total_vm`` has the size of each thread's address space, in pages; ``processes`` has those
    threads alone whose process has another id. ``time_ns`` is when it was begun, on the log's
    clock.
    """

    largest: tuple[Row, ...]
    count: int
    total_vm: Mapping[int, int]
    processes: Mapping[int, int]
    time_ns: int

    def row(self, tid: int | None) -> Row | None:
        """The row of that thread, if it is one of the largest."""
        return next((row for row in self.largest if row.tid == tid), None)

    def page(self, tid: int, total_vm: int) -> int:
        """The size of a page, in bytes, by what that thread has in bytes; else this machine's."""
        pages = self.total_vm.get(tid)
        size = total_vm // pages if pages else 0
        return size if size in _PAGES else PAGE_BYTES


@dataclass(slots=True)
class TableReader:
    """Takes the rows of one table, as its first line says what is in them."""

    columns: tuple[str, ...]
    time_ns: int
    _largest: list[tuple[int, int, Row]] = field(default_factory=list)
    _count: int = 0
    _total_vm: dict[int, int] = field(default_factory=dict)
    _processes: dict[int, int] = field(default_factory=dict)

    def add(self, text: str) -> bool:
        """Take a line; whether it is a row."""
        found = _rows(len(self.columns)).fullmatch(text)
        if not found:
            return False
        tid, *numbers, comm = found.groups()
        told = dict(zip(self.columns, map(int, numbers), strict=False))
        row = _row(int(tid), told, comm)
        if row is None:
            return False
        if len(self._total_vm) < _MOST_SIZES:
            self._total_vm[row.tid] = told.get("total_vm", 0)
        if row.tid != row.tgid and len(self._processes) < _MOST_THREADS:
            self._processes[row.tid] = row.tgid
        self._count += 1
        entry = row.held, -self._count, row
        if len(self._largest) < MOST_LARGEST:
            heappush(self._largest, entry)
        else:
            heappushpop(self._largest, entry)
        return True

    def table(self) -> Table:
        """What was taken by now."""
        largest = tuple(row for _, _, row in sorted(self._largest, reverse=True))
        return Table(largest, self._count, self._total_vm, self._processes, self.time_ns)


@functools.lru_cache(maxsize=16)
def _rows(columns: int) -> re.Pattern[str]:
    numbers = r" {1,24}(-?\d{1,19})" * (columns - 1)
    # One blank stands before the name, which may begin with others.
    return pattern(rf"\[ {{0,8}}(\d{{1,10}})\]{numbers} (.{{0,80}})")


def _row(tid: int, told: Mapping[str, int], comm: str) -> Row | None:
    if not {"uid", "tgid", "rss"} <= told.keys():
        return None
    # Before 4.15 there is a column for each level that has one.
    levels = [told[name] for name in ("nr_ptes", "nr_pmds", "nr_puds") if name in told]
    return Row(
        tid=tid,
        uid=told["uid"] % _USERS,
        tgid=told["tgid"],
        rss=max(0, told["rss"]),
        comm=comm,
        swap=told.get("swapents"),
        page_table_pages=sum(levels) if levels else None,
        page_table_bytes=told.get("pgtables_bytes"),
        score_adj=told.get("oom_score_adj"),
    )
