"""Check that the capture loop turns, from another thread."""

from __future__ import annotations

import os
import threading
from contextlib import suppress


class TurnProbe:
    """A request that wakes the capture loop, and that its next turn answers."""

    def __init__(self) -> None:
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_requested = False
        self._turned = threading.Event()
        self._request = threading.Lock()

    def fileno(self) -> int:
        """Return a descriptor that is readable while a request waits."""
        return self._wakeup

    def answer(self) -> None:
        """Note a turn of the loop, in its own thread."""
        if self._is_requested:
            self._is_requested = False
            with suppress(BlockingIOError):
                os.eventfd_read(self._wakeup)
            self._turned.set()

    def wait_for_turn(self, timeout_s: float) -> bool:
        """Wake the loop; return whether it turns within ``timeout_s`` seconds."""
        with self._request:
            self._turned.clear()
            self._is_requested = True
            os.eventfd_write(self._wakeup, 1)
            return self._turned.wait(timeout_s)
