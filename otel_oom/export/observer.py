"""Observer of an exporter: its steps, and the results of its messages."""

from __future__ import annotations

from collections.abc import Iterable


class ExportObserver:
    """Receives each step of an exporter; the methods here do nothing.

    Called in the exporter's thread: they must neither block nor raise.
    """

    @property
    def wants_delays(self) -> bool:
        """Return true if :meth:`on_delivered` is of use: it costs a query of the store."""
        return False

    def begin_step(self) -> None:
        """Note that a bounded step begins."""

    def end_step(self) -> None:
        """Note that the step ended; the thread may wait for any time."""

    def on_exported(self, signal: str, error_type: str, count: int) -> None:
        """Count messages with a final result; ``error_type`` is empty for accepted ones."""

    def on_delivered(self, signal: str, delays_s: Iterable[float]) -> None:
        """Record the seconds from the kernel to the backend, one value for each message."""
