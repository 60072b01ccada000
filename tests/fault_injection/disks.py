"""The disk below the store: full, gone, read-only, and with other bytes than were written."""

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
from tests.fault_injection.trial import ENDS_S, Trial
from tests.testlib.kernel.disk import Disk, mount_disk

_SEED: Final = 7
_SOME: Final = 5
_MANY: Final = 20
_WHILE_S: Final = 4.0
_BLOCK: Final = 4096
_FLIPS: Final = 8
_ROUNDS: Final = 5
_NAMES: Final = ("otel-oom.db", "otel-oom.db-wal")


@contextmanager
def _small_disk(trial: Trial) -> Iterator[Disk]:
    """Have the store on a disk that can be filled."""
    with mount_disk(trial.folder / "disk", "24M") as small:
        trial.state_dir = small.path / "state"
        yield small


def full(trial: Trial, *, short: bool) -> None:
    """Fill the disk before a start, and under a running agent; SIGKILL it there; make room."""
    with _small_disk(trial) as small:
        trial.install()
        small.fill()
        with trial.raging(), trial.agent() as life:
            time.sleep(_WHILE_S)
            trial.crash(life)
        with trial.agent() as life:
            trial.storm.kill(_SOME, trial.memcg)
            small.clear()
            trial.wait_until_told()
            trial.crash(life)
        # Now under a running agent, whose backend is away, until it takes no more.
        trial.backend.mood = trial.backend.unavailable
        with trial.agent() as life:
            small.fill()
            with trial.raging(0.0):
                if short:
                    time.sleep(_WHILE_S)
                else:
                    life.says("Cannot store kills", within_s=_FILLS_S)
            trial.crash(life)
        with trial.agent() as life:
            trial.storm.kill(_SOME, trial.memcg)
            trial.crash(life)
        trial.backend.mood = trial.backend.well
        with trial.agent() as life:
            trial.storm.kill(_SOME, trial.memcg)
            small.clear()
            trial.wait_until_told()
            trial.crash(life)
        trial.settle()


_FILLS_S: Final = 120.0


def folder_gone(trial: Trial, *, short: bool) -> None:
    """Delete the state folder, under a running agent and while none runs."""
    trial.install()
    for _ in range(1 if short else _ROUNDS):
        with trial.agent() as life:
            trial.backend.mood = trial.backend.unavailable
            trial.storm.kill(_SOME, trial.memcg)
            _delete(trial.state_dir)
            trial.storm.kill(_SOME, trial.memcg)
            trial.crash(life)
        trial.backend.mood = trial.backend.well
    trial.settle()
    # What is not told yet goes with it, but for what the kernel still knows.
    with trial.agent() as life:
        trial.backend.mood = trial.backend.unavailable
        trial.storm.kill(_SOME, trial.memcg)
        trial.crash(life)
    _delete(trial.state_dir)
    trial.storm.kill(_SOME, trial.memcg)
    trial.backend.mood = trial.backend.well
    trial.settle(history=True)


def _delete(folder: Path) -> None:
    """Delete it under whoever writes there: what comes meanwhile is as good as made anew."""
    shutil.rmtree(folder, ignore_errors=True)


def read_only(trial: Trial, *, short: bool) -> None:
    """Have the kernel find the file system broken under a running agent, and repair it."""
    with failing_disk(trial.folder / "image", trial.folder / "disk") as failing:
        trial.state_dir = failing.path / "state"
        trial.install()
        for _ in range(1 if short else _ROUNDS):
            with trial.agent() as life:
                trial.storm.kill(_SOME, trial.memcg)
                failing.fail()
                trial.storm.kill(_SOME, trial.memcg)
                life.says("Cannot store kills")
                trial.crash(life)
            with trial.agent(ready=False) as life:
                # It can't begin, says so and ends; its service manager tries again.
                assert life.process.wait(ENDS_S) == 1, life.log_text()
            trial.storm.kill(_SOME, trial.memcg)
            failing.repair()
            with trial.agent() as life:
                trial.wait_until_told()
                trial.crash(life)
        trial.settle()


def flipped_while_down(trial: Trial, *, short: bool) -> None:
    """Change bytes of the database and of its log while no agent runs, with much not sent yet."""
    _flipped(trial, lambda: _flip(trial, _NAMES), short=short, down=True)


def flipped_while_up(trial: Trial, *, short: bool) -> None:
    """Change bytes of both under a running agent."""
    _flipped(trial, lambda: _flip(trial, _NAMES), short=short, down=False)


def _flipped(trial: Trial, flip: Callable[[], None], *, short: bool, down: bool) -> None:
    trial.install()
    for _ in range(1 if short else _ROUNDS):
        trial.backend.mood = trial.backend.unavailable
        with trial.agent() as life:
            trial.storm.kill(_MANY, trial.memcg)
            if not down:
                flip()
                trial.storm.kill(_SOME, trial.memcg)
            trial.crash(life)
        if down:
            flip()
        trial.storm.kill(_SOME, trial.memcg)
        trial.backend.mood = trial.backend.well
        with trial.agent(history=True) as life:
            trial.wait_until_told()
            trial.crash(life)
    trial.settle(history=True)


_chance = random.Random(_SEED)  # noqa: S311  no secret


def _flip(trial: Trial, names: tuple[str, ...]) -> None:
    """Flip one bit in each of some bytes that hold something."""
    for name in names:
        path = trial.state_dir / name
        if not path.exists() or not path.stat().st_size:
            continue
        with path.open("r+b") as file:
            blocks = [n for n in range(path.stat().st_size // _BLOCK) if any(_block(file, n))]
            for _ in range(_FLIPS):
                at = _chance.choice(blocks) * _BLOCK + _chance.randrange(_BLOCK)
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << _chance.randrange(8)]))
            os.fsync(file.fileno())


def _block(file: object, number: int) -> bytes:
    file.seek(number * _BLOCK)  # type: ignore[attr-defined]
    return bytes(file.read(_BLOCK))  # type: ignore[attr-defined]
