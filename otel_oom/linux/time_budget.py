"""A bound to the time that is spent on something slow, over many calls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class TimeBudget:
    """A number of seconds in each window of time; not safe for use by several threads."""

    def __init__(self, max_s: float, window_s: float) -> None:
        """Allow ``max_s`` seconds in ``window_s`` seconds, and the end of the last call."""
        self._max_s = max_s
        self._window_s = window_s
        self._spent_s = 0.0
        self._window_end = 0.0

    @property
    def is_exhausted(self) -> bool:
        """Return whether nothing may be called before the window ends."""
        if time.monotonic() >= self._window_end:
            return False
        return self._spent_s >= self._max_s

    def exhaust(self) -> None:
        """Spend the rest: what is slow has failed."""
        self._window_end = time.monotonic() + self._window_s
        self._spent_s = self._max_s

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Count the time of the body."""
        started = time.monotonic()
        if started >= self._window_end:
            self._window_end, self._spent_s = started + self._window_s, 0.0
        try:
            yield
        finally:
            self._spent_s += time.monotonic() - started
