"""What the bound in bytes let go of, told now and then: at the bound every event drops some."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

_LOG = logging.getLogger(__name__)

_EVERY_S: Final = 60.0


class DropReporter:
    """What was dropped and not yet told; safe to use from several threads."""

    def __init__(self, database: Path) -> None:
        """Of ``database``."""
        self._database = database
        self._mutex = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._told = -_EVERY_S

    def add(self, counts: Counter[str]) -> None:
        """Take note of what was dropped, and tell it if it is time."""
        with self._mutex:
            self._counts += counts
        self.report()

    def report(self) -> None:
        """Tell what is not told yet, at most once a minute."""
        with self._mutex:
            if not self._counts or time.monotonic() < self._told + _EVERY_S:
                return
            what = ", ".join(f"{count} {name}" for name, count in sorted(self._counts.items()))
            self._counts.clear()
            self._told = time.monotonic()
        _LOG.error(
            "The store %s has met its bound; of the oldest that nobody has taken, it let go of: %s",
            self._database,
            what,
        )
