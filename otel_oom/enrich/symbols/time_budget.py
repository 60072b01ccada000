"""The time that symbols may take, by holder and in all."""

from __future__ import annotations

import time
from typing import Final

_HOLDER_SHARE: Final = 0.05
_TOTAL_SHARE: Final = 0.2
"""Shares of real time, over which kills of others wait in the meantime."""
_BURST_S: Final = 1.0
_MAX_HOLDERS: Final = 256


class TimeBudget:
    """Time that is spent and comes back slowly: a second at first, and again after a pause."""

    def __init__(self) -> None:
        # The balance in seconds, and its time on the monotonic clock; the least recent first.
        self._holders: dict[str, tuple[float, float]] = {}
        self._total = (_BURST_S, time.monotonic())

    def allows(self, holder: str) -> bool:
        """Return whether ``holder`` may take time now.

        After the time of all is spent there is a reserve for those that took none of late.
        """
        now = time.monotonic()
        balance = _balance(self._holders.get(holder, (_BURST_S, now)), now, _HOLDER_SHARE)
        total = _balance(self._total, now, _TOTAL_SHARE)
        return balance > 0 and total > (-_BURST_S if balance >= _BURST_S else 0.0)

    def spend(self, holder: str, duration_s: float) -> None:
        """Subtract time that ``holder`` took until now."""
        now = time.monotonic()
        state = self._holders.pop(holder, (_BURST_S, now))
        self._holders[holder] = (_balance(state, now, _HOLDER_SHARE) - duration_s, now)
        self._total = (_balance(self._total, now, _TOTAL_SHARE) - duration_s, now)
        while len(self._holders) > _MAX_HOLDERS:
            del self._holders[next(iter(self._holders))]


def _balance(state: tuple[float, float], now: float, share: float) -> float:
    balance, then = state
    return min(_BURST_S, balance + (now - then) * share)
