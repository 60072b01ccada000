"""Attach a source in a thread, while the agent imports the rest of itself."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

from otel_oom.capture.source import Source, SupportsWithdrawal


class AttachThread(AbstractContextManager[Source]):
    """A source that attaches from the call on; entering waits for that, leaving detaches.

    The kernel verifies the programs for tens of milliseconds. Kills of the meantime wait in its
    buffer.
    """

    def __init__(self, source: Source) -> None:
        """Begin to attach ``source``, which imports nothing while it does."""
        self._source = source
        self._error: BaseException | None = None
        self._is_entered = False
        self._thread = threading.Thread(target=self._attach, name="attach", daemon=True)
        self._thread.start()

    def _attach(self) -> None:
        try:
            self._source.__enter__()
        except BaseException as error:  # noqa: BLE001  whoever enters raises it
            self._error = error

    def __enter__(self) -> Source:
        """Return the attached source. Raises CaptureError if this host does not allow it."""
        self._is_entered = True
        self._thread.join()
        if self._error:
            raise self._error
        return self._source

    def __exit__(self, *_: object) -> None:
        """Detach."""
        self._source.__exit__(None, None, None)

    def cancel(self) -> None:
        """Leave nothing in the kernel, unless the source was entered."""
        if self._is_entered:
            return
        self._thread.join()
        if self._error:
            return
        if isinstance(self._source, SupportsWithdrawal):
            self._source.withdraw()
        self._source.__exit__(None, None, None)
