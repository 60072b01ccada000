"""Faults of the backend: stopped, silent, unavailable, misbehaving, or at another endpoint."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Final

from tests.fault_injection.backend import FaultyBackend
from tests.fault_injection.trial import Trial

_LONG_S: Final = 30.0
_SHORT_S: Final = 2.0
_CRASHES: Final = 4


def stop_backend(trial: Trial, *, short: bool) -> None:
    """Stop and start the backend while kills go on."""
    _disturb(trial, trial.backend.stop, trial.backend.start, short=short)


def keep_backend_silent(trial: Trial, *, short: bool) -> None:
    """Accept connections and never respond."""
    _misbehave(trial, trial.backend.stay_silent, short=short)


def make_backend_unavailable(trial: Trial, *, short: bool) -> None:
    """Respond 503 for a long time."""
    _misbehave(trial, trial.backend.respond_unavailable, short=short)


def make_backend_misbehave(trial: Trial, *, short: bool) -> None:
    """Respond garbage, or accept everything without a response."""
    _misbehave(trial, trial.backend.misbehave, short=short)


def _misbehave(trial: Trial, behavior: object, *, short: bool) -> None:
    def begin() -> None:
        trial.backend.behavior = behavior  # type: ignore[assignment]

    def end() -> None:
        trial.backend.behavior = trial.backend.accept
        # Pending requests get no response.
        trial.backend.stop()
        trial.backend.start()

    _disturb(trial, begin, end, short=short)


def _disturb(
    trial: Trial, begin: Callable[[], None], end: Callable[[], None], *, short: bool
) -> None:
    trial.install()
    part_s = (_SHORT_S if short else _LONG_S) / _CRASHES
    with trial.kill_continuously():
        begin()
        for _ in range(_CRASHES):
            with trial.run_agent() as agent:
                time.sleep(part_s)
                trial.crash(agent)
        with trial.run_agent():
            time.sleep(part_s)
            end()
            # The agent finds it again by itself.
            trial.wait_until_delivered()
    trial.deliver_rest()


def change_endpoint(trial: Trial, *, short: bool) -> None:
    """Send the queued messages of one backend to another after a restart."""
    trial.install()
    trial.backend.behavior = trial.backend.respond_unavailable
    with trial.kill_continuously():
        for _ in range(1 if short else _CRASHES):
            with trial.run_agent() as agent:
                time.sleep(_SHORT_S)
                trial.crash(agent)
    second = FaultyBackend(trial.backend.received)
    try:
        with trial.run_agent(url=second.url) as agent:
            trial.wait_until_delivered()
            assert agent.stop(signal.SIGTERM) == 0, agent.log_text()
        trial.deliver_rest(url=second.url)
    finally:
        second.close()
