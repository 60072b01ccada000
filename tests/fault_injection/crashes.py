"""SIGKILL at each step of a kill's way, and at random times."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from typing import Final

from tests.fault_injection.steps import STEPS, Needs, Step, find_step
from tests.fault_injection.trial import KILLED_S, RunningAgent, Trial

_PASSES: Final = (1, 3)
_LIVES_S: Final = 2.0
_SEED: Final = 5
_GAP: Final = 3
_RANDOM: Final = 150
_RANDOM_SHORT: Final = 5
SHORT_STEPS: Final = tuple(
    find_step(name)
    for name in (
        "a link is renamed into place",
        "a kill is written, not committed",
        "a record is handled, not released",
        "messages are queued",
        "messages are sent",
        "the tally is updated",
    )
)


def kill_at_each_step(trial: Trial, *, short: bool) -> None:
    """Kill an agent at each step, at its first pass and at a later one."""
    trial.install()
    with trial.kill_continuously():
        for step in STEPS:
            for number in _PASSES[:1] if is_passed_once(step) else _PASSES:
                if not short or (number == 1 and step in SHORT_STEPS):
                    _kill_at(trial, step, number)
    trial.deliver_rest()


def is_passed_once(step: Step) -> bool:
    """Return True if an agent may pass a step only once."""
    return step.needs is not Needs.NOTHING or STEPS.index(step) < _START_STEPS


_START_STEPS: Final = (
    next(n for n, step in enumerate(STEPS) if step.name == "capture has begun") + 1
)


def _kill_at(trial: Trial, step: Step, number: int) -> None:
    note = trial.folder / "note"
    note.unlink(missing_ok=True)
    if step.needs is Needs.GAP:
        trial.unpin()
        trial.storm.kill(_GAP, trial.memcg)
    if step.needs is Needs.REJECTION:
        trial.backend.behavior = trial.backend.reject
    runner = ("--die-at", step.name, "--pass", str(number), "--note", str(note))
    with trial.run_agent(runner=runner, ready=step.needs is Needs.STOP) as agent:
        if step.needs is Needs.STOP:
            agent.process.send_signal(signal.SIGTERM)
        code = _wait(agent, step)
    assert code == -signal.SIGKILL, f"{step.name}: {code}, {agent.log_text()}"
    assert note.read_text(encoding="utf-8") == step.name
    trial.crashes += 1
    if step.needs is Needs.GAP:
        # At once, since the log of a small machine holds only some seconds of this storm.
        with trial.run_agent() as agent:
            trial.wait_until_delivered(spans=False)
            trial.crash(agent)
    if step.needs is Needs.REJECTION:
        trial.backend.behavior = trial.backend.accept
        trial.run_command("queue", "resend", "--all", "--state-dir", trial.state_dir)


def _wait(agent: RunningAgent, step: Step) -> int:
    try:
        return agent.process.wait(KILLED_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{step.name!r} was never passed: {agent.log_text()}") from None


def kill_at_random_times(trial: Trial, *, short: bool) -> None:
    """Kill agents some time after their start, most before all is sent."""
    randoms = random.Random(_SEED)  # noqa: S311  no secret
    trial.install()
    with trial.kill_continuously():
        for _ in range(_RANDOM_SHORT if short else _RANDOM):
            with trial.run_agent(ready=False) as agent:
                time.sleep(randoms.uniform(0.0, _LIVES_S))
                assert agent.process.poll() is None, agent.log_text()
                trial.crash(agent)
    trial.deliver_rest()
