"""Observer of an exporter: what it does and what becomes of its messages."""

from __future__ import annotations

from collections.abc import Iterable


class ExportObserver:
    """Receives each step of an exporter; the methods here do nothing.

    Called in the exporter's thread: they must neither block nor raise.
    """

    @property
    def measures_delays(self) -> bool:
        """Whether :meth:`delivered_after` is of use: it costs a query of the store."""
        return False

    def begin_step(self) -> None:
        """Note that a bounded step begins."""

    def rest(self) -> None:
        """Note that the thread waits, for any time."""

    def exported(self, signal: str, error_type: str, count: int) -> None:
        """Count messages that a backend decided on; ``error_type`` is empty for accepted ones."""

    def delivered_after(self, signal: str, delays_s: Iterable[float]) -> None:
        """Record the seconds from the kernel to the backend, one for each message."""
