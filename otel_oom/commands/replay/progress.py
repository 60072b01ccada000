"""Progress of reading, on a terminal only.

Not by rich: ``--json`` shows it as well.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from otel_oom.model.units import format_bytes

_INTERVAL_S: Final = 0.1
_BAR_WIDTH: Final = 24
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """A line that is overwritten: bar, share, amount, rate and number of kills."""

    def __init__(
        self,
        total: int,
        output: TextIO = sys.stderr,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start; ``total`` is the size of the files on disk in bytes, 0 if unknown."""
        self._total = total
        self._output = output
        self._monotonic = monotonic
        self._is_terminal = output.isatty()
        self._start_s = self._next_s = monotonic()
        self._read = 0
        self._finished = 0
        self.position: Callable[[], int] = lambda: 0
        self.kills = 0

    def add(self, count: int) -> None:
        """Count more bytes, decompressed."""
        self._read += count
        if self._is_terminal and self._monotonic() >= self._next_s:
            self._next_s = self._monotonic() + _INTERVAL_S
            self._write(_CLEAR + self._text())

    def end_file(self, size_on_disk: int) -> None:
        """Go on to the next file."""
        self._finished += size_on_disk
        self.position = lambda: 0

    def clear(self) -> None:
        """Remove the line, so that other output starts at its beginning."""
        if self._is_terminal:
            self._write(_CLEAR)

    def summary(self) -> str:
        """Return the amount and the rate."""
        return f"{format_bytes(self._read)}, {self._rate()}"

    def _text(self) -> str:
        share = min(1.0, (self._finished + self.position()) / self._total) if self._total else 0.0
        bar = ("█" * int(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, "░")
        part = f"{bar} {share:4.0%}  " if self._total else ""
        return f"{part}{format_bytes(self._read)}  {self._rate()}  {self.kills} kills"

    def _rate(self) -> str:
        elapsed_s = max(self._monotonic() - self._start_s, 1e-9)
        return f"{self._read / elapsed_s / 1e6:.0f} MB/s"

    def _write(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()
