"""The agent's own health, for the service manager, for probes, and for ``doctor --alive``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from otel_oom.agent.ingest import IngestLoop
from otel_oom.store import Store

_TURN_S: Final = 4.0
"""Longest turn of a healthy capture loop: one event, with a disk that is slow."""


class Health:
    """What keeps the agent from its work; each method returns a sentence, ``None`` if nothing.

    An unreachable backend is no fault of the agent: a restart would not help.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.ingest: IngestLoop | None = None
        """The capture loop, as soon as there is one."""
        self.find_delivery_error: Callable[[], str | None] = lambda: None

    def find_error(self) -> str | None:
        """Return a fault of the store or of delivery that a restart may fix."""
        try:
            self._store.stats.ping()
        except sqlite3.Error as error:
            return f"the store can't be read: {error}"
        return self.find_delivery_error()

    def find_liveness_error(self) -> str | None:
        """Return likewise, or that the capture loop hangs. May take some seconds then."""
        if self.ingest and not self.ingest.probe.wait_for_turn(_TURN_S):
            return f"the capture loop has made no turn for {_TURN_S:.0f} s"
        return self.find_error()

    def find_readiness_error(self) -> str | None:
        """Return why kills are not captured and stored now."""
        if self.ingest is None:
            return "capture has not begun"
        return self.ingest.store_error or self.find_liveness_error()
