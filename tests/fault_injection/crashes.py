"""SIGKILL: at each step of the way, and at times that nobody has chosen."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from typing import Final

from tests.fault_injection.steps import STEPS, Needs, Step
from tests.fault_injection.trial import DIES_S, Life, Trial

_PASSES: Final = (1, 3)
_LIVES_S: Final = 2.0
_SEED: Final = 5
_GAP: Final = 3
_RANDOM: Final = 150
_RANDOM_SHORT: Final = 5
_SHORT: Final = (
    "a link is in its place",
    "a kill is written, not committed",
    "a record is handled, not released",
    "messages are queued",
    "messages are sent",
    "a gap is settled",
)


def at_every_step(trial: Trial, *, short: bool) -> None:
    """Have an agent die at each step, at its first pass and at a later one, and begin again."""
    trial.install()
    with trial.raging():
        for step in STEPS:
            for number in _PASSES[:1] if once(step) else _PASSES:
                if not short or (number == 1 and step.name in _SHORT):
                    _die(trial, step, number)
    trial.settle()


def once(step: Step) -> bool:
    """Whether an agent may pass a step once only."""
    return step.needs is not Needs.NOTHING or STEPS.index(step) < _ALL_OVER


_ALL_OVER: Final = next(n for n, step in enumerate(STEPS) if step.name == "capture has begun") + 1


def _die(trial: Trial, step: Step, number: int) -> None:
    note = trial.folder / "note"
    note.unlink(missing_ok=True)
    if step.needs is Needs.GAP:
        trial.unpin()
        trial.storm.kill(_GAP, trial.memcg)
    if step.needs is Needs.REFUSAL:
        trial.backend.mood = trial.backend.refusing
    runner = ("--die-at", step.name, "--pass", str(number), "--note", str(note))
    with trial.agent(runner=runner, ready=step.needs is Needs.STOP) as life:
        if step.needs is Needs.STOP:
            life.process.send_signal(signal.SIGTERM)
        code = _wait(life, step)
    assert code == -signal.SIGKILL, f"{step.name}: {code}, {life.log_text()}"
    assert note.read_text(encoding="utf-8") == step.name
    trial.crashes += 1
    if step.needs is Needs.GAP:
        # It is filled at once: the log of a small machine holds some seconds of this storm alone.
        with trial.agent() as life:
            trial.wait_until_told(spans=False)
            trial.crash(life)
    if step.needs is Needs.REFUSAL:
        trial.backend.mood = trial.backend.well
        trial.command("queue", "resend", "--all", "--state-dir", trial.state_dir)


def _wait(life: Life, step: Step) -> int:
    try:
        return life.process.wait(DIES_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{step.name!r} was never passed: {life.log_text()}") from None


def at_random_times(trial: Trial, *, short: bool) -> None:
    """Have agents die some time after their start, most before all is sent."""
    chance = random.Random(_SEED)  # noqa: S311  no secret
    trial.install()
    with trial.raging():
        for _ in range(_RANDOM_SHORT if short else _RANDOM):
            with trial.agent(ready=False) as life:
                time.sleep(chance.uniform(0.0, _LIVES_S))
                assert life.process.poll() is None, life.log_text()
                trial.crash(life)
    trial.settle()
