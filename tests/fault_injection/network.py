"""A backend that is gone, silent, busy or mad, and one that moves."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Final

from tests.fault_injection.backend import Backend
from tests.fault_injection.trial import Trial

_LONG_S: Final = 30.0
_SHORT_S: Final = 2.0
_CRASHES: Final = 4


def gone(trial: Trial, *, short: bool) -> None:
    """Have the backend die and come back, again and again, with kills going on."""
    _ill(trial, trial.backend.go, trial.backend.come, short=short)


def silent(trial: Trial, *, short: bool) -> None:
    """Have it take connections and never answer."""
    _moody(trial, trial.backend.silent, short=short)


def unavailable(trial: Trial, *, short: bool) -> None:
    """Have it answer 503 for long."""
    _moody(trial, trial.backend.unavailable, short=short)


def mad(trial: Trial, *, short: bool) -> None:
    """Have it answer what is no answer, or take all and never say so."""
    _moody(trial, trial.backend.mad, short=short)


def _moody(trial: Trial, mood: object, *, short: bool) -> None:
    def begin() -> None:
        trial.backend.mood = mood  # type: ignore[assignment]

    def end() -> None:
        trial.backend.mood = trial.backend.well
        # Who waits for an answer is given none.
        trial.backend.go()
        trial.backend.come()

    _ill(trial, begin, end, short=short)


def _ill(trial: Trial, begin: Callable[[], None], end: Callable[[], None], *, short: bool) -> None:
    trial.install()
    part_s = (_SHORT_S if short else _LONG_S) / _CRASHES
    with trial.raging():
        begin()
        for _ in range(_CRASHES):
            with trial.agent() as life:
                time.sleep(part_s)
                trial.crash(life)
        with trial.agent():
            time.sleep(part_s)
            end()
            # It is found again by itself.
            trial.wait_until_told()
    trial.settle()


def moved(trial: Trial, *, short: bool) -> None:
    """Have what waits for one backend sent to another: the endpoint is another after a restart."""
    trial.install()
    trial.backend.mood = trial.backend.unavailable
    with trial.raging():
        for _ in range(1 if short else _CRASHES):
            with trial.agent() as life:
                time.sleep(_SHORT_S)
                trial.crash(life)
    elsewhere = Backend(trial.backend.taken)
    try:
        with trial.agent(url=elsewhere.url) as life:
            trial.wait_until_told()
            assert life.stop(signal.SIGTERM) == 0, life.log_text()
        trial.settle(url=elsewhere.url)
    finally:
        elsewhere.close()
