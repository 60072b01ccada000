"""Bounded waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(probe: Callable[[], T], what: str, *, limit: float = 10.0, every: float = 0.05) -> T:
    """Call ``probe`` until it returns something truthy, and return that.

    Args:
        probe: called at least once; an exception of it ends the waiting.
        what: named in the error.
        limit: the maximum time in seconds.
        every: seconds between two calls.

    Raises:
        TimeoutError: the time is over; names ``what`` and the last result of the probe.
    """
    deadline = time.monotonic() + limit
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {limit:g} s (last result: {result!r})")
        time.sleep(every)
