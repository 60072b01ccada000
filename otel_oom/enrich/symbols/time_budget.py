"""The time that symbols may take, by holder and in all."""

from __future__ import annotations

import time
from typing import Final

_HOLDER_SHARE: Final = 0.02
_TOTAL_SHARE: Final = 0.2
"""Shares of real time, over which kills of others wait in the meantime."""
_HOLDER_BURST_S: Final = 1.0
_TOTAL_BURST_S: Final = 0.5
_RESERVE_S: Final = 0.5
_MAX_HOLDERS: Final = 256


class TimeBudget:
    """Time that is spent at once and comes back slowly."""

    def __init__(self) -> None:
        # The balance in seconds, and its time on the monotonic clock; the least recent first.
        self._holders: dict[str, tuple[float, float]] = {}
        self._total = (_TOTAL_BURST_S, time.monotonic())

    def allows(self, holder: str) -> bool:
        """Return whether ``holder`` may take time now.

        After the time of all is spent there is a reserve, larger for those that took less of late.
        """
        now = time.monotonic()
        balance = self._holder_balance(holder, now)
        total = _refill(self._total, now, _TOTAL_SHARE, _TOTAL_BURST_S)
        return balance > 0 and total > -_RESERVE_S * balance / _HOLDER_BURST_S

    def spend(self, holder: str, duration_s: float) -> None:
        """Subtract time that ``holder`` took until now."""
        now = time.monotonic()
        balance = self._holder_balance(holder, now)
        self._holders.pop(holder, None)
        self._holders[holder] = balance - duration_s, now
        total = _refill(self._total, now, _TOTAL_SHARE, _TOTAL_BURST_S)
        self._total = total - duration_s, now
        while len(self._holders) > _MAX_HOLDERS:
            del self._holders[next(iter(self._holders))]

    def _holder_balance(self, holder: str, now: float) -> float:
        state = self._holders.get(holder, (_HOLDER_BURST_S, now))
        return _refill(state, now, _HOLDER_SHARE, _HOLDER_BURST_S)


def _refill(state: tuple[float, float], now: float, share: float, burst_s: float) -> float:
    balance, then = state
    return min(burst_s, balance + (now - then) * share)
