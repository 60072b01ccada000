"""Wait for kills by the kernel's own count, for a log that nothing can wait for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from otel_oom.linux.kill_count import VMSTAT, read_kill_count
from otel_oom.linux.timer import IntervalTimer

_INTERVAL_S: Final = 0.25
"""A reading of the count takes 0.1 ms."""
_QUIET_S: Final = 60.0
"""Longest time between two readings of the log: not every event in it is counted."""


class KillCountWatch:
    """A descriptor that is readable now and then, and whether the log may have news."""

    def __init__(self, vmstat: Path = VMSTAT) -> None:
        """Start the timer. Raises OSError."""
        self._vmstat = vmstat
        self._timer = IntervalTimer(_INTERVAL_S)
        self._count = read_kill_count(vmstat)
        self._is_rising = False
        self._read_at = time.monotonic()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._timer.fileno()

    def close(self) -> None:
        """End the timer."""
        self._timer.close()

    def has_news(self) -> bool:
        """Return whether kills were counted since the last call, or the one before.

        A kill is counted before its line is printed, so the log is read once more. Without a count,
        before Linux 4.13, there may always be news.
        """
        self._timer.clear()
        count = read_kill_count(self._vmstat)
        was_rising, self._is_rising = self._is_rising, count != self._count
        self._count = count
        now = time.monotonic()
        if count is None or self._is_rising or was_rising or now - self._read_at > _QUIET_S:
            self._read_at = now
            return True
        return False
