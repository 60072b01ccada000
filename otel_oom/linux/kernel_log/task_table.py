"""The report's task table: the processes that the kernel could choose from (dump_tasks()).

Its header names its columns, which changed with the kernels: ``cpu oom_adj`` (2.6.25),
``oom_score_adj`` beside them (2.6.36), ``nr_ptes swapents`` (3.7), ``nr_pmds`` (4.0),
``pgtables_bytes`` (4.15), ``rss_anon rss_file rss_shmem`` (6.8). Sizes are in pages. The log does
not contain the page size: it follows from a process whose size another line has in kB.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from heapq import heappush, heappushpop
from typing import Final

from msgspec import Struct

from otel_oom.linux.kernel_log.line_types import compile_pattern
from otel_oom.model.types import OomTask
from otel_oom.model.units import PAGE_BYTES

MAX_LARGEST: Final = 11
"""The ten largest beside the victim."""
_MAX_SIZES: Final = 4096
_MAX_THREADS: Final = 256
_PAGE_SIZES: Final = frozenset({1 << 12, 1 << 13, 1 << 14, 1 << 16, 1 << 18})
_UID_RANGE: Final = 1 << 32


class TableRow(Struct, frozen=True):
    """A process: ``tid`` is that of a thread which has memory, sizes are in pages.

    Newer kernels print ``page_table_bytes`` instead of ``page_table_pages``.
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
    def total_pages(self) -> int:
        """About the memory that its death would free, in pages."""
        tables = self.page_table_pages or (self.page_table_bytes or 0) // PAGE_BYTES
        return self.rss + (self.swap or 0) + tables

    def to_task(self, page_bytes: int) -> OomTask:
        """Convert the sizes to bytes."""
        tables = self.page_table_bytes
        if tables is None and self.page_table_pages is not None:
            tables = self.page_table_pages * page_bytes
        return OomTask(
            tgid=self.tgid,
            comm=self.comm,
            resident=self.rss * page_bytes,
            swap=None if self.swap is None else self.swap * page_bytes,
            page_tables=tables,
            uid=self.uid,
            score_adj=self.score_adj,
        )


class TaskTable(Struct, frozen=True):
    """The largest processes of a table, the largest first, out of ``count``.

    ``total_vm`` is the size of each thread's address space, in pages. ``tgids`` has the process of
    each thread whose id differs from it. ``time_ns`` is the header's time on the log's clock.
    """

    largest: tuple[TableRow, ...]
    count: int
    total_vm: Mapping[int, int]
    tgids: Mapping[int, int]
    time_ns: int

    def find_row(self, tid: int | None) -> TableRow | None:
        """Return the row of a thread, if it is one of the largest."""
        return next((row for row in self.largest if row.tid == tid), None)

    def page_bytes(self, tid: int, total_vm: int) -> int:
        """Return the page size, given a thread's ``total_vm`` in bytes; else this machine's."""
        pages = self.total_vm.get(tid)
        size = total_vm // pages if pages else 0
        return size if size in _PAGE_SIZES else PAGE_BYTES


class TaskTableReader(Struct):
    """Reader of the rows of one table with the given ``columns``."""

    columns: tuple[str, ...]
    time_ns: int
    _largest: list[tuple[int, int, TableRow]] = []
    _count: int = 0
    _total_vm: dict[int, int] = {}
    _tgids: dict[int, int] = {}

    def add(self, text: str) -> bool:
        """Add a line; return whether it is a row."""
        match = _row_pattern(len(self.columns)).fullmatch(text)
        if not match:
            return False
        tid, *numbers, comm = match.groups()
        values = dict(zip(self.columns, map(int, numbers), strict=False))
        row = _build_row(int(tid), values, comm)
        if row is None:
            return False
        if len(self._total_vm) < _MAX_SIZES:
            self._total_vm[row.tid] = values.get("total_vm", 0)
        if row.tid != row.tgid and len(self._tgids) < _MAX_THREADS:
            self._tgids[row.tid] = row.tgid
        self._count += 1
        entry = row.total_pages, -self._count, row
        if len(self._largest) < MAX_LARGEST:
            heappush(self._largest, entry)
        else:
            heappushpop(self._largest, entry)
        return True

    def build(self) -> TaskTable:
        """Return the table of the rows so far."""
        largest = tuple(row for _, _, row in sorted(self._largest, reverse=True))
        return TaskTable(largest, self._count, self._total_vm, self._tgids, self.time_ns)


@functools.lru_cache(maxsize=16)
def _row_pattern(columns: int) -> re.Pattern[str]:
    numbers = r" {1,24}(-?\d{1,19})" * (columns - 1)
    # One blank precedes the name, which may begin with others.
    return compile_pattern(rf"\[ {{0,8}}(\d{{1,10}})\]{numbers} (.{{0,80}})")


def _build_row(tid: int, values: Mapping[str, int], comm: str) -> TableRow | None:
    if not {"uid", "tgid", "rss"} <= values.keys():
        return None
    # Before 4.15 there is a column for each level of page tables.
    levels = [values[name] for name in ("nr_ptes", "nr_pmds", "nr_puds") if name in values]
    return TableRow(
        tid=tid,
        uid=values["uid"] % _UID_RANGE,
        tgid=values["tgid"],
        rss=max(0, values["rss"]),
        comm=comm,
        swap=values.get("swapents"),
        page_table_pages=sum(levels) if levels else None,
        page_table_bytes=values.get("pgtables_bytes"),
        score_adj=values.get("oom_score_adj"),
    )
