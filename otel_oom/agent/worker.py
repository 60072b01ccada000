"""Threads that restart their work after a failure, and report their health."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from otel_oom.agent.liveness import Liveness

_LOG = logging.getLogger(__name__)

_RESTART_S: Final = 5.0


class Worker:
    """A thread that repeats its work until stopped; the work resumes from the disk."""

    def __init__(
        self, name: str, work: Callable[[], None], stop: threading.Event, liveness: Liveness
    ) -> None:
        self._name = name
        self._work = work
        self._stop = stop
        self._liveness = liveness
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread; at once if it was never started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def health_error(self) -> str | None:
        """Return why a restart of the agent may help; ``None`` if the thread is healthy."""
        if self._thread.ident is not None and not self._thread.is_alive():
            return f"thread {self._name!r} has ended"
        stalled_s = self._liveness.stalled_s
        if stalled_s is not None:
            return f"thread {self._name!r} has been stalled for {stalled_s:.0f} s"
        return None

    def _run(self) -> None:
        reported = ""
        while not self._stop.is_set():
            try:
                self._work()
            except sqlite3.Error as error:
                if str(error) != reported:
                    _LOG.warning(
                        "Delivery: store failed: %s; retrying every %.0f s", error, _RESTART_S
                    )
                reported = str(error)
                self._stop.wait(_RESTART_S)
            except Exception:  # noqa: BLE001  a failure must not end delivery for good
                _LOG.exception("Delivery: thread %r failed; restarting it", self._name)
                self._stop.wait(_RESTART_S)
