"""Keep-alive of the service manager's watchdog, sent only while the agent is healthy.

The capture loop sends it, so a loop that hangs sends none. Before each one the store must answer,
and each thread of delivery must be alive and not stalled. An unreachable backend does not trip the
watchdog: a restart would not help.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class Watchdog:
    """Timer of the keep-alive (sd_watchdog_enabled(3))."""

    def __init__(
        self,
        interval_s: float | None,
        health_error: Callable[[], str | None],
        notify: Callable[[str], None],
    ) -> None:
        """Notify every ``interval_s`` seconds unless there is a ``health_error``.

        Without an interval nothing is sent.
        """
        self._interval_s = interval_s
        self._health_error = health_error
        self._notify = notify
        self._next = time.monotonic()
        self._reported: str | None = None

    @property
    def wait_s(self) -> float:
        """Return the seconds until the next keep-alive; infinity without a watchdog."""
        if self._interval_s is None:
            return math.inf
        return max(0.0, self._next - time.monotonic())

    def tick(self) -> None:
        """Send the keep-alive if it is due and the agent is healthy."""
        if self._interval_s is None or time.monotonic() < self._next:
            return
        error = self._health_error()
        if error is None:
            self._notify("WATCHDOG=1")
        elif self._reported is None:
            _LOG.error("Watchdog: no keep-alive is sent: %s", error)
        if error is None and self._reported is not None:
            _LOG.info("Watchdog: healthy again; keep-alives are sent")
        self._reported = error
        self._next = time.monotonic() + self._interval_s
