"""When a host may be tried again: one budget for all that is sent to it.

Logs and traces go to the same host. Were each to back off by itself, an outage would be probed
twice, and its end be met by two herds; here one tries for all, and the others wait for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tenacity import RetryCallState, Retrying, wait_random_exponential

from otel_oom.export.result import ExportResponse, ExportResult

_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0
_LONGEST_ASKED_S: Final = 3600.0
"""What a backend may ask for at the most: past it, asking again does no harm."""


class RetryGate:
    """The tries of one host, in turns while it fails; safe to use from several threads.

    While all is well turns overlap freely. From a failure on nobody has one until the wait is
    over; then one has it, in the order in which they came, until it has heard an answer.
    """

    def __init__(self) -> None:
        """Begin with a host that is well."""
        self._changed = threading.Condition()
        self._failures = 0
        self._not_before = 0.0
        self._trying = False
        self._waiting: deque[object] = deque()

    @contextmanager
    def turn(self, stopped: Callable[[], bool]) -> Iterator[Callable[[ExportResponse], None]]:
        """Wait for one's turn, or until ``stopped``; what it yields is to be told each answer."""
        with self._changed:
            self._await(stopped)
            began = self._failures
            # Where it fails nobody else tries now; when stopped, nobody does here either.
            alone = began > 0 and not stopped()
            self._trying = self._trying or alone

        def heard(answer: ExportResponse) -> None:
            nonlocal began
            with self._changed:
                began = self._note(began, answer)
                self._changed.notify_all()

        try:
            yield heard
        finally:
            if alone:
                with self._changed:
                    self._trying = False
                    self._changed.notify_all()

    def _await(self, stopped: Callable[[], bool]) -> None:
        me = object()
        self._waiting.append(me)
        try:
            while not stopped() and not self._may_try(me):
                self._changed.wait(self._until_next_s(me))
        finally:
            self._waiting.remove(me)
            self._changed.notify_all()

    def _note(self, began: int, answer: ExportResponse) -> int:
        """What an answer changes; the failures that its turn knows of from now on."""
        if answer.verdict is not ExportResult.RETRYABLE:
            self._failures = 0
            self._not_before = 0.0
        elif began == self._failures:
            self._failures += 1
            self._not_before = time.monotonic() + wait_s(self._failures, answer.wait_s)
        elif answer.wait_s:
            # A turn that overlapped with one that failed met the same outage: it counts once.
            until = time.monotonic() + wait_s(self._failures, answer.wait_s)
            self._not_before = max(self._not_before, until)
        return self._failures

    def left_s(self) -> float:
        """The seconds until somebody may try; 0 while all is well."""
        with self._changed:
            return max(0.0, self._not_before - time.monotonic())

    def look_up(self) -> None:
        """Have all that wait for their turn see whether they are stopped."""
        with self._changed:
            self._changed.notify_all()

    def _may_try(self, me: object) -> bool:
        if self._failures == 0:
            return True
        over = time.monotonic() >= self._not_before
        return over and not self._trying and self._waiting[0] is me

    def _until_next_s(self, me: object) -> float | None:
        """How long nothing changes by itself; ``None`` while it is somebody else's move."""
        if self._trying or self._waiting[0] is not me:
            return None
        return max(0.0, self._not_before - time.monotonic())


def wait_s(failures: int, asked_s: float | None) -> float:
    """The seconds to wait after so many ``failures`` in a row, where ``asked_s`` was asked for.

    Random below a bound that grows exponentially ("full jitter"), and on top of what was asked
    for: a thousand agents that a backend sends away for 30 s come back over the 30 s after
    those, not in one instant.
    """
    asked = min(asked_s or 0.0, _LONGEST_ASKED_S)
    jitter = wait_random_exponential(multiplier=max(asked, _FIRST_WAIT_S), max=_LONGEST_WAIT_S)
    state = RetryCallState(Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = failures
    return asked + jitter(state)
