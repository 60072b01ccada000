"""How far reading is, on a terminal; nothing at all elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from otel_oom.model.units import format_bytes

_EVERY_S: Final = 0.1
_WIDTH: Final = 24
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """One line, written over and over: bar, share, rate, and what was found."""

    def __init__(
        self,
        total: int,
        output: TextIO = sys.stderr,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Of ``total`` bytes of files, as they are on the disk; 0 where that is not known."""
        self._total = total
        self._output = output
        self._monotonic = monotonic
        self._shown = output.isatty()
        self._began = self._next = monotonic()
        self._read = 0
        self._before = 0
        self.position: Callable[[], int] = lambda: 0
        """How far the file is that is being read."""
        self.kills = 0

    def add(self, count: int) -> None:
        """So many bytes more have been read, and unpacked if they were packed."""
        self._read += count
        if self._shown and self._monotonic() >= self._next:
            self._next = self._monotonic() + _EVERY_S
            self._output.write(_CLEAR + self._line())
            self._output.flush()

    def end_of_file(self, size_on_disk: int) -> None:
        """The next file follows."""
        self._before += size_on_disk
        self.position = lambda: 0

    def close(self) -> None:
        """Take the line away: what is said next begins where it was."""
        if self._shown:
            self._output.write(_CLEAR)
            self._output.flush()

    def summary(self) -> str:
        """How much was read, and how fast."""
        return f"{format_bytes(self._read)}, {self._rate()}"

    def _line(self) -> str:
        share = min(1.0, (self._before + self.position()) / self._total) if self._total else 0.0
        bar = ("█" * int(share * _WIDTH)).ljust(_WIDTH, "░")
        part = f"{bar} {share:4.0%}  " if self._total else ""
        return f"{part}{format_bytes(self._read)}  {self._rate()}  {self.kills} kills"

    def _rate(self) -> str:
        took = max(self._monotonic() - self._began, 1e-9)
        return f"{self._read / took / 1e6:.0f} MB/s"
