"""The list of faults: what is done to the agent, and by which function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.fault_injection import crashes, disks, memory, network, power
from tests.fault_injection.tally import Tally
from tests.fault_injection.trial import Trial, trial


class Play(Protocol):
    """Plays a fault; shortly where it is one test among others."""

    def __call__(self, trial: Trial, *, short: bool) -> None:
        """Do it, and leave the agent with nothing to tell."""


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    name: str
    """What is typed to play it alone."""
    what: str
    """What is done."""
    play: Play

    def run(self, folder: Path, *, short: bool) -> Tally:
        """Play it in an empty folder.

        Raises:
            AssertionError: the agent did not come through.
        """
        with trial(folder) as field:
            self.play(field, short=short)
            return field.tally()


_LIST: Final = (
    ("steps", "SIGKILL at each step, from start to stop", crashes.at_every_step),
    ("random", "SIGKILL at random times", crashes.at_random_times),
    ("full", "disk full, before the start and while running", disks.full),
    ("folder", "state directory deleted, while running and while stopped", disks.folder_gone),
    ("read-only", "file system remounted read-only, as after an error", disks.read_only),
    ("flips-down", "bits flipped in database and log, while stopped", disks.flipped_while_down),
    ("flips-up", "bits flipped in database and log, while running", disks.flipped_while_up),
    ("gone", "backend ends and restarts", network.gone),
    ("silent", "backend never responds", network.silent),
    ("busy", "backend responds 503 for a long time", network.unavailable),
    ("mad", "backend responds garbage, or accepts everything and disconnects", network.mad),
    ("moved", "another endpoint after a restart", network.moved),
    ("overflow", "SIGSTOP until the ring buffer overflows", memory.overflow),
    ("overflow-no-log", "the same, without the kernel log", memory.overflow_without_log),
    ("own-victim", "the agent itself is the OOM victim", memory.own_victim),
    (
        "power",
        "power cut in a guest of Debian's 6.1; only kills that it had logged as stored",
        power.cut,
    ),
)
FAULTS: Final = tuple(Fault(*fault) for fault in _LIST)

TESTED: Final = ("steps", "full", "flips-down", "mad", "overflow-no-log", "own-victim")
"""Whose short form is part of `make test`: one of each kind."""
