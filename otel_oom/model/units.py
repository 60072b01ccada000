"""Units, and sizes in the form that people read."""

from __future__ import annotations

import os
from typing import Final

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
NS_PER_US: Final = 1000
US_PER_S: Final = 1_000_000
MS_PER_S: Final = 1000
MINUTE_S: Final = 60
DAY_S: Final = 86_400

KIB: Final = 1 << 10
MIB: Final = 1 << 20
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_duration(ns: int) -> str:
    """Format a duration of ``ns`` nanoseconds: ``4.2 s``, ``64 s``, ``9 minutes``."""
    seconds = ns / NS_PER_S
    if seconds < 10:  # noqa: PLR2004  of more seconds, tenths say nothing
        return f"{seconds:.1f} s"
    if seconds < 2 * MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE_S:.0f} minutes"


def format_bytes(count: int) -> str:
    """Format ``count`` bytes in the largest unit that leaves at least one: ``49.6 MiB``."""
    value = float(count)
    for unit in _UNITS:
        if value < KIB or unit == _UNITS[-1]:
            break
        value /= KIB
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
