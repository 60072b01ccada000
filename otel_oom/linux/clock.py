"""From the kernel's boot clock to Unix time."""

from __future__ import annotations

import time
from pathlib import Path

_TRIES = 5


def boot_to_unix_offset_ns() -> int:
    """CLOCK_REALTIME minus CLOCK_BOOTTIME now, in nanoseconds.

    The two clocks cannot be read at one instant. Of a few readings the one taken in the
    shortest time is the best; its error is at most half that time, usually under 1 µs.
    """
    best_span, best_offset = 1 << 62, 0
    for _ in range(_TRIES):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        real = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if after - before < best_span:
            best_span, best_offset = after - before, real - (before + after) // 2
    return best_offset


def boottime_ns() -> int:
    """CLOCK_BOOTTIME now, in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The kernel's random id of this boot (``/proc/sys/kernel/random/boot_id``)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
