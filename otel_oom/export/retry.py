"""Retry of a host: one backoff for all signals that are sent to it.

Logs and traces go to the same host. With a backoff of their own, each would probe an outage by
itself, and its end would meet two thundering herds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tenacity import RetryCallState, Retrying, retry_always, wait_random_exponential

from otel_oom.export.result import ExportResponse, ExportResult

_FIRST_WAIT_S: Final = 1.0
_MAX_WAIT_S: Final = 60.0
_MAX_RETRY_AFTER_S: Final = 3600.0
"""Longest wait that a backend can request; a retry after it does no harm."""

Report = Callable[[ExportResponse], None]


class RetryGate:
    """Admission to one host while it fails; safe to use from several threads.

    A host that works is open to all at once. After a failure the gate is closed until the wait is
    over; then it admits one thread at a time, in order of arrival, until a request succeeds.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._not_before = 0.0
        self._probing = False
        self._queue: deque[object] = deque()
        self._begin_tries()

    @contextmanager
    def acquire(self, stopped: Callable[[], bool]) -> Iterator[Report]:
        """Wait for admission, or until ``stopped``; yield a function for responses."""
        with self._changed:
            self._wait(stopped)
            failures = self._failures
            # While the host fails, nobody else may try; a stopped thread does not try either.
            probe = failures > 0 and not stopped()
            self._probing = self._probing or probe

        def report(response: ExportResponse) -> None:
            nonlocal failures
            with self._changed:
                self._update(response, failures)
                failures = self._failures
                self._changed.notify_all()

        try:
            yield report
        finally:
            if probe:
                with self._changed:
                    self._probing = False
                    self._changed.notify_all()

    def remaining_s(self) -> float:
        """Return the seconds until the next try; 0 for a working host."""
        with self._changed:
            return max(0.0, self._not_before - time.monotonic())

    def wake_all(self) -> None:
        """Have all waiting threads check whether they are stopped."""
        with self._changed:
            self._changed.notify_all()

    def _begin_tries(self) -> None:
        self._not_before = 0.0
        # tenacity counts the tries and computes each wait; the threads wait in acquire().
        self._retrying = Retrying(retry=retry_always, wait=backoff_s, sleep=self._close)
        self._tries = iter(self._retrying)
        self._state = next(self._tries).retry_state

    @property
    def _failures(self) -> int:
        return self._state.attempt_number - 1

    def _update(self, response: ExportResponse, known_failures: int) -> None:
        if response.result is not ExportResult.RETRYABLE:
            self._begin_tries()
        elif known_failures == self._failures:
            self._state.set_result(response)
            self._retrying.begin()  # tenacity keeps statistics for each thread
            next(self._tries)
        elif response.retry_after_s:
            # A request that overlapped with a failed one met the same outage: it counts once.
            self._state.set_result(response)
            self._close(backoff_s(self._state))

    def _close(self, wait_s: float) -> None:
        self._not_before = max(self._not_before, time.monotonic() + wait_s)

    def _wait(self, stopped: Callable[[], bool]) -> None:
        ticket = object()
        self._queue.append(ticket)
        try:
            while not stopped() and not self._admits(ticket):
                # Other threads notify of their own changes.
                blocked = self._probing or self._queue[0] is not ticket
                self._changed.wait(None if blocked else self.remaining_s())
        finally:
            self._queue.remove(ticket)
            self._changed.notify_all()

    def _admits(self, ticket: object) -> bool:
        if self._failures == 0:
            return True
        return self.remaining_s() == 0 and not self._probing and self._queue[0] is ticket


def backoff_s(state: RetryCallState) -> float:
    """Return the seconds to wait after a failed try: a tenacity wait function.

    The wait is random below a bound that grows exponentially ("full jitter"), plus what the
    backend requests. A thousand agents with ``Retry-After: 30`` come back over the 30 s after
    those, not in one instant.
    """
    response: ExportResponse | None = state.outcome.result() if state.outcome else None
    requested_s = min((response and response.retry_after_s) or 0.0, _MAX_RETRY_AFTER_S)
    first_s = max(requested_s, _FIRST_WAIT_S)
    return requested_s + wait_random_exponential(multiplier=first_s, max=_MAX_WAIT_S)(state)
