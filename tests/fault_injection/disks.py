"""Faults of the disk of the store: full, deleted, read-only, and with flipped bits."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.fault_injection.failing_disk import failing_disk
from tests.fault_injection.trial import EXIT_S, Trial
from tests.testlib.kernel.disk import Disk, mount_disk

_SEED: Final = 7
_FEW: Final = 5
_MANY: Final = 20
_STORM_S: Final = 4.0
_BLOCK: Final = 4096
_FLIPS: Final = 8
_ROUNDS: Final = 5
_NAMES: Final = ("otel-oom.db", "otel-oom.db-wal")


@contextmanager
def _small_disk(trial: Trial) -> Iterator[Disk]:
    """Put the store on a disk that can be filled."""
    with mount_disk(trial.folder / "disk", "24M") as small:
        trial.state_dir = small.path / "state"
        yield small


def fill_disk(trial: Trial, *, short: bool) -> None:
    """Fill the disk before a start, and under a running agent; kill that; free the space."""
    with _small_disk(trial) as small:
        trial.install()
        small.fill()
        with trial.kill_continuously(), trial.run_agent() as agent:
            time.sleep(_STORM_S)
            trial.crash(agent)
        with trial.run_agent() as agent:
            trial.storm.kill(_FEW, trial.memcg)
            small.clear()
            trial.wait_until_delivered()
            trial.crash(agent)
        # Now under a running agent without a backend, until it can store no more.
        trial.backend.behavior = trial.backend.respond_unavailable
        with trial.run_agent() as agent:
            small.fill()
            with trial.kill_continuously(0.0):
                if short:
                    time.sleep(_STORM_S)
                else:
                    agent.wait_for_log("Cannot store kills", within_s=_FILLS_S)
            trial.crash(agent)
        with trial.run_agent() as agent:
            trial.storm.kill(_FEW, trial.memcg)
            trial.crash(agent)
        trial.backend.behavior = trial.backend.accept
        with trial.run_agent() as agent:
            trial.storm.kill(_FEW, trial.memcg)
            small.clear()
            trial.wait_until_delivered()
            trial.crash(agent)
        trial.deliver_rest()


_FILLS_S: Final = 120.0


def delete_state_directory(trial: Trial, *, short: bool) -> None:
    """Delete the state directory, under a running agent and while none runs."""
    trial.install()
    for _ in range(1 if short else _ROUNDS):
        with trial.run_agent() as agent:
            trial.backend.behavior = trial.backend.respond_unavailable
            trial.storm.kill(_FEW, trial.memcg)
            _delete(trial.state_dir)
            trial.storm.kill(_FEW, trial.memcg)
            trial.crash(agent)
        trial.backend.behavior = trial.backend.accept
    trial.deliver_rest()
    # Undelivered kills are deleted with it, except those that the kernel still has.
    with trial.run_agent() as agent:
        trial.backend.behavior = trial.backend.respond_unavailable
        trial.storm.kill(_FEW, trial.memcg)
        trial.crash(agent)
    _delete(trial.state_dir)
    trial.storm.kill(_FEW, trial.memcg)
    trial.backend.behavior = trial.backend.accept
    trial.deliver_rest(history=True)


def _delete(folder: Path) -> None:
    """Delete a folder while the agent may write there."""
    shutil.rmtree(folder, ignore_errors=True)


def remount_read_only(trial: Trial, *, short: bool) -> None:
    """Let the kernel find the file system broken under a running agent, and repair it."""
    with failing_disk(trial.folder / "image", trial.folder / "disk") as failing:
        trial.state_dir = failing.path / "state"
        trial.install()
        for _ in range(1 if short else _ROUNDS):
            with trial.run_agent() as agent:
                trial.storm.kill(_FEW, trial.memcg)
                failing.fail()
                trial.storm.kill(_FEW, trial.memcg)
                agent.wait_for_log("Cannot store kills")
                trial.crash(agent)
            with trial.run_agent(ready=False) as agent:
                # It cannot start, logs that and exits; its service manager retries.
                assert agent.process.wait(EXIT_S) == 1, agent.log_text()
            trial.storm.kill(_FEW, trial.memcg)
            failing.repair()
            with trial.run_agent() as agent:
                trial.wait_until_delivered()
                trial.crash(agent)
        trial.deliver_rest()


def flip_bits_while_stopped(trial: Trial, *, short: bool) -> None:
    """Flip bits of database and log while no agent runs, with much not sent yet."""
    _with_flipped_bits(trial, lambda: _flip(trial, _NAMES), short=short, down=True)


def flip_bits_while_running(trial: Trial, *, short: bool) -> None:
    """Flip bits of both under a running agent."""
    _with_flipped_bits(trial, lambda: _flip(trial, _NAMES), short=short, down=False)


def _with_flipped_bits(trial: Trial, flip: Callable[[], None], *, short: bool, down: bool) -> None:
    trial.install()
    for _ in range(1 if short else _ROUNDS):
        trial.backend.behavior = trial.backend.respond_unavailable
        with trial.run_agent() as agent:
            trial.storm.kill(_MANY, trial.memcg)
            if not down:
                flip()
                trial.storm.kill(_FEW, trial.memcg)
            trial.crash(agent)
        if down:
            flip()
        trial.storm.kill(_FEW, trial.memcg)
        trial.backend.behavior = trial.backend.accept
        with trial.run_agent(history=True) as agent:
            trial.wait_until_delivered()
            trial.crash(agent)
    trial.deliver_rest(history=True)


_random = random.Random(_SEED)  # noqa: S311  no secret


def _flip(trial: Trial, names: tuple[str, ...]) -> None:
    """Flip one bit in each of some bytes of non-empty blocks."""
    for name in names:
        path = trial.state_dir / name
        if not path.exists() or not path.stat().st_size:
            continue
        with path.open("r+b") as file:
            blocks = [n for n in range(path.stat().st_size // _BLOCK) if any(_block(file, n))]
            for _ in range(_FLIPS):
                offset = _random.choice(blocks) * _BLOCK + _random.randrange(_BLOCK)
                file.seek(offset)
                byte = file.read(1)[0]
                file.seek(offset)
                file.write(bytes([byte ^ 1 << _random.randrange(8)]))
            os.fsync(file.fileno())


def _block(file: object, number: int) -> bytes:
    file.seek(number * _BLOCK)  # type: ignore[attr-defined]
    return bytes(file.read(_BLOCK))  # type: ignore[attr-defined]
