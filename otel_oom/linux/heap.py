"""The heap of the C library, which keeps more than the agent needs (glibc's malloc)."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_ARENA_MAX: Final = -8
_TRIM_BYTES: Final = 512 << 10
"""More than an event takes while it is encoded: else the kernel would provide it for each."""


def share_heap() -> None:
    """Let all later threads use one heap (mallopt(3)), if the C library can.

    By default each thread has a heap of its own, and keeps there what it needed at most.
    """
    _set_option(_M_ARENA_MAX, 1)


def bound_free_heap() -> None:
    """Let the C library return the free end of the heap, if it can.

    By default it keeps twice the largest block so far there, of 12 MB with the kernel's types. Its
    blocks of 128 KiB and more are then mapped by themselves, which would slow down that load.
    """
    _set_option(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def _set_option(option: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(option, value)


def trim_heap() -> None:
    """Return free memory to the kernel (malloc_trim(3)), if the C library can.

    Loading BPF programs takes 12 MB for the kernel's types, in pieces that glibc would keep. Locked
    memory can not be returned.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
