"""Isolation of a message that a backend keeps rejecting as if it were overloaded (429, 503, …).

Retrying the same batch for ever would hold up every message in it and behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otel_oom.store import Message

_MAX_FAILURES: Final = 4
"""Failures in a row after which one message alone is sent as a probe."""
_MAX_PROBES: Final = 1024
"""Messages that fail as probes before the first of them is one again."""
_MAX_CONFIRMED_FAILURES: Final = 2
"""Failures in a row after a probe succeeded: a rate limit may reject what comes next."""


class Isolation:
    """Search for the message that is the cause, without a request more than the retries allow.

    After some failures in a row the next retry is a probe: one other message. While probes fail
    too, the backend is down, and each retry is another probe. If one succeeds and the batch still
    fails, batches grow from one message, by success, and shrink by failure. A message that fails
    alone, directly after a success, is the cause.
    """

    def __init__(self, max_count: int) -> None:
        self._full_count = max_count
        self._probes_newest = False
        self.reset()

    def reset(self) -> None:
        """Send whole batches again."""
        self.max_count = self._full_count
        """Messages in the next batch, unless it is a probe."""
        self.is_probing = False
        self._failures = 0
        self._is_backend_up = False
        self.probed_uids: list[str] = []
        """The suspect, and the probes that failed since the last success."""

    def choose_probe(self, messages: Sequence[Message]) -> Message:
        """Return the first or the newest of ``messages`` in turn: a backlog may be of one kind."""
        self._probes_newest = not self._probes_newest
        if self._probes_newest:
            return max(messages, key=lambda message: message.id)
        return messages[0]

    def on_success(self) -> None:
        """Note that the backend gave a definite result, which may be a rejection."""
        if self.is_probing:
            self.is_probing, self._is_backend_up = False, True
        elif self.max_count < self._full_count:
            self.max_count = min(self._full_count, 2 * self.max_count)
        else:
            self._is_backend_up = False
        self._failures = 0
        self.probed_uids = self.probed_uids[:1]

    def on_failure(self, messages: Sequence[Message]) -> bool:
        """Note that the backend did not accept ``messages``; return true for the cause alone."""
        self._failures += 1
        if self.is_probing:
            # Once all have failed, they are tried again.
            is_last = len(self.probed_uids) >= _MAX_PROBES or messages[0].uid in self.probed_uids
            self.probed_uids = [] if is_last else [*self.probed_uids, messages[0].uid]
            return False
        self.probed_uids = [messages[0].uid]
        if self.max_count == self._full_count:
            return self._on_whole_failure(is_single=len(messages) == 1)
        if len(messages) == 1 and self._failures == 1:
            return True
        self.max_count = max(1, len(messages) // 2)
        # A message that fails alone must follow a success.
        self.is_probing = self.max_count == 1 or self._failures >= _MAX_FAILURES
        return False

    def _on_whole_failure(self, *, is_single: bool) -> bool:
        if not self._is_backend_up:
            self.is_probing = self._failures >= _MAX_FAILURES
        elif self._failures >= _MAX_CONFIRMED_FAILURES:
            if is_single:
                self.reset()
                return True
            self.max_count, self.is_probing = 1, True
        return False
