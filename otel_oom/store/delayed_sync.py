"""Sync of what may be synced a little later than it is written.

A kill is synced before the kernel's buffer releases its record. What is added to it may be lost
with the host's memory, as the kernel's buffer is: a report, an exit, a step of the reaper. Nearly
always the next kill, or a message of the same one, is synced within milliseconds, and the log's
earlier part with it.
"""

from __future__ import annotations

import math
import time
from typing import Final

from otel_oom.store.database import Database

DELAY_S: Final = 0.05
"""Longer than a message takes to the outbox."""


class DelayedSync:
    """Sync of transactions that were committed without one, :data:`DELAY_S` later."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def wait_s(self) -> float:
        """Return the seconds until a sync is due; infinity if all is synced."""
        since_s = self._database.unsynced_since_s
        return math.inf if since_s is None else max(0.0, since_s + DELAY_S - time.monotonic())

    def sync_if_due(self) -> None:
        """Sync what another transaction has not synced meanwhile.

        Raises sqlite3.Error if that fails.
        """
        if self.wait_s == 0:
            self._database.sync()
