"""Samples of many cgroups in one table of bounded size: a row for each time, a column for each."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

_MISSING: Final = 0xFFFF_FFFF
"""No sample; usage is counted in pages, of which 2^32 are 16 TiB."""
_CHUNK: Final = 128
"""Columns that are allocated at once: 60 KiB with 120 rows."""


class SampleTable:
    """The last samples of each column, four bytes each.

    One thread writes. Another may read at any time without a lock: each method that reads takes
    one slice of an array, which the interpreter does not interrupt.
    """

    def __init__(self, row_count: int, max_columns: int) -> None:
        """Keep ``row_count`` samples of at most ``max_columns`` columns."""
        self._row_count = row_count
        self._max_columns = max_columns
        self._chunks: list[array[int]] = []
        self._free: list[int] = []
        self.last_tick = -1
        """The count of intervals of the current row."""
        self._row_start = 0

    @property
    def size_bytes(self) -> int:
        """The memory of all samples."""
        return sum(chunk.itemsize * len(chunk) for chunk in self._chunks)

    def add_column(self) -> int | None:
        """Return a column without samples; ``None`` if all are in use."""
        if not self._free:
            first = len(self._chunks) * _CHUNK
            if first >= self._max_columns:
                return None
            self._chunks.append(array("I", [_MISSING]) * (_CHUNK * self._row_count))
            self._free.extend(range(first + _CHUNK - 1, first - 1, -1))
        return self._free.pop()

    def release_column(self, column: int) -> None:
        """Clear a column, and give it to the next that needs one."""
        cells = array("I", [_MISSING]) * self._row_count
        self._chunks[column // _CHUNK][column % _CHUNK :: _CHUNK] = cells
        self._free.append(column)

    def begin_row(self, tick: int) -> None:
        """Begin the row of ``tick``, a count of intervals; rows of missed ticks stay empty."""
        empty = array("I", [_MISSING]) * _CHUNK
        for missed in range(max(self.last_tick + 1, tick - self._row_count + 1), tick + 1):
            start = missed % self._row_count * _CHUNK
            for chunk in self._chunks:
                chunk[start : start + _CHUNK] = empty
            self._row_start = start
        self.last_tick = max(self.last_tick, tick)

    def set_sample(self, column: int, pages: int) -> None:
        """Store the sample of a column in the current row."""
        chunk = self._chunks[column // _CHUNK]
        chunk[self._row_start + column % _CHUNK] = min(pages, _MISSING - 1)

    def read_column(self, column: int, last_tick: int) -> Sequence[int | None]:
        """Return the samples of a column up to ``last_tick``, oldest first, in pages.

        ``None`` stands where there is none.
        """
        tick = self.last_tick
        cells = self._chunks[column // _CHUNK][column % _CHUNK :: _CHUNK]
        first, last = max(0, tick - self._row_count + 1), min(tick, last_tick)
        samples = (cells[row % self._row_count] for row in range(first, last + 1))
        return [None if pages == _MISSING else pages for pages in samples]
