"""A timer as a file descriptor, timerfd_create(2); Python has it from 3.13 on."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress
from typing import Final

from otel_oom.model.units import NS_PER_S

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class IntervalTimer:
    """A timer that expires again and again; its descriptor is readable once it has expired."""

    def __init__(self, interval_s: float) -> None:
        """Start the timer. Raises OSError."""
        seconds, nanoseconds = divmod(round(interval_s * NS_PER_S), NS_PER_S)
        # struct itimerspec: the interval, and the time to the first expiration.
        times = (ctypes.c_long * 4)(*(seconds, nanoseconds) * 2)
        self._fd: int = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or _LIBC.timerfd_settime(self._fd, 0, times, None):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def clear(self) -> None:
        """Make the descriptor unreadable until the timer expires the next time."""
        with suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """End the timer."""
        os.close(self._fd)
