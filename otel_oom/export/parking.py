"""Parked messages: those that a backend keeps rejecting alone while it accepts others.

Others are deferred by the transport itself.
"""

from __future__ import annotations

import math
import random
import time
from typing import Final

from msgspec import Struct

_MAX_PARKED: Final = 256
_MAX_DEFERRED: Final = 1024
_FIRST_WAIT_S: Final = 60.0
_MAX_WAIT_S: Final = 3600.0
_MAX_DOUBLINGS: Final = 10


class _Parked(Struct):
    retry_at: float
    retries: int = 0


class Parking:
    """Messages that were isolated, by uid, each with a backoff of its own.

    They stay in the outbox. A restart of the agent tries them again with all others.
    """

    def __init__(self) -> None:
        self._parked: dict[str, _Parked] = {}

    def __contains__(self, uid: str) -> bool:
        return uid in self._parked

    @property
    def uids(self) -> list[str]:
        """The uids of all parked and deferred messages."""
        return [*self._parked]

    @property
    def count(self) -> int:
        """The number of parked messages, without deferred ones."""
        return sum(map(self.is_parked, self._parked))

    @property
    def free_count(self) -> int:
        """The number of messages that can still be deferred."""
        return max(0, _MAX_DEFERRED - len(self._parked) + self.count)

    def is_parked(self, uid: str) -> bool:
        """Return whether the backend keeps rejecting a message."""
        return uid in self._parked and self._parked[uid].retries > 0

    def defer(self, uid: str, wait_s: float) -> None:
        """Hold a message back for ``wait_s`` seconds, although nothing is wrong with it."""
        self._parked[uid] = _Parked(time.monotonic() + wait_s)

    def park(self, uid: str, retry_after_s: float | None) -> float | None:
        """Park a message, once more after each retry; return the wait in seconds.

        Return ``None`` if too many are parked: then the backend rejects more than single messages.
        """
        parked = self._parked.get(uid) or _Parked(0.0)
        if not self.is_parked(uid) and self.count >= _MAX_PARKED:
            return None
        bound_s = min(_MAX_WAIT_S, _FIRST_WAIT_S * 2 ** min(parked.retries, _MAX_DOUBLINGS))
        requested_s = min(retry_after_s or 0.0, _MAX_WAIT_S)
        wait_s = requested_s + random.uniform(bound_s / 2, bound_s)  # noqa: S311  no secret
        self._parked[uid] = _Parked(time.monotonic() + wait_s, parked.retries + 1)
        return wait_s

    def release(self, uid: str) -> None:
        """Forget a message that has left the outbox."""
        self._parked.pop(uid, None)

    @property
    def due_uid(self) -> str | None:
        """The uid of a message whose wait is over."""
        now = time.monotonic()
        return next((uid for uid, parked in self._parked.items() if parked.retry_at <= now), None)

    @property
    def wait_s(self) -> float:
        """Seconds until the first wait is over; infinite without any."""
        first = min((parked.retry_at for parked in self._parked.values()), default=math.inf)
        return max(0.0, first - time.monotonic())
