"""A heartbeat for the service manager's watchdog that means something (sd_watchdog_enabled(3)).

It is the capture loop that beats, so that there is none when the loop does not turn. Before each
beat it looks whether the store answers and whether each thread of delivery is alive and moves. A
backend that is away is none of its business: a restart would not bring it back.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class Watchdog:
    """When the next beat is due, and the beat."""

    def __init__(
        self,
        interval_s: float | None,
        trouble: Callable[[], str | None],
        notify: Callable[[str], None],
    ) -> None:
        """Beat every ``interval_s`` seconds, or never, unless ``trouble`` says what is wrong."""
        self._interval_s = interval_s
        self._trouble = trouble
        self._notify = notify
        self._next = time.monotonic()
        self._reported: str | None = None

    @property
    def wait_s(self) -> float:
        """How long nothing is to be done, in seconds; infinity without a watchdog."""
        if self._interval_s is None:
            return math.inf
        return max(0.0, self._next - time.monotonic())

    def turn(self) -> None:
        """The capture loop turns: beat, if a beat is due."""
        if self._interval_s is None or time.monotonic() < self._next:
            return
        trouble = self._trouble()
        if trouble is None:
            self._notify("WATCHDOG=1")
        elif self._reported is None:
            _LOG.error("No heartbeat for the watchdog: %s", trouble)
        if trouble is None and self._reported is not None:
            _LOG.info("The heartbeat for the watchdog goes on")
        self._reported = trouble
        self._next = time.monotonic() + self._interval_s
