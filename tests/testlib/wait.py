"""Bounded waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(probe: Callable[[], T], what: str, *, limit: float = 10.0, every: float = 0.05) -> T:
    """Call the probe until it returns something truthy, and return that.

    Args:
        probe: asked at least once; what it raises ends the waiting.
        what: what is waited for, for the error.
        limit: seconds to wait at most.
        every: seconds between two calls.

    Raises:
        TimeoutError: the limit passed; names what was waited for and the probe's last answer.
    """
    deadline = time.monotonic() + limit
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {limit:g} s (last answer: {answer!r})")
        time.sleep(every)
