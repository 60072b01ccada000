"""The speed of this machine, by which limits of time follow it."""

from __future__ import annotations

import functools
import time
from typing import Final

_LOOPS: Final = 300_000
_FAST_S: Final = 0.03
"""More than an idle processor of today takes."""
_MAX_SLOWNESS: Final = 8.0


@functools.cache
def slowness() -> float:
    """Return how many times longer than a fast machine this one computes, 1 to 8; measured once."""
    began = time.monotonic()
    sum(range(_LOOPS))
    return min(max(1.0, (time.monotonic() - began) / _FAST_S), _MAX_SLOWNESS)
