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
    ("steps", "SIGKILL at each of its steps, from start to end", crashes.at_every_step),
    ("random", "SIGKILL at random times", crashes.at_random_times),
    ("full", "the disk full, before and under a running agent", disks.full),
    ("folder", "the state folder deleted, while it runs and while not", disks.folder_gone),
    ("read-only", "the file system made read-only, as the kernel found it broken", disks.read_only),
    ("flips-down", "bits flipped in database and log between two starts", disks.flipped_while_down),
    ("flips-up", "bits flipped in both while it runs", disks.flipped_while_up),
    ("gone", "the backend dies and comes back", network.gone),
    ("silent", "the backend never answers", network.silent),
    ("busy", "the backend answers 503 for long", network.unavailable),
    ("mad", "the backend answers rubbish, or takes all and hangs up", network.mad),
    ("moved", "another endpoint after the restart", network.moved),
    ("overflow", "SIGSTOP until the kernel's buffer overflows", memory.overflow),
    ("overflow-no-log", "the same, without the kernel's log", memory.overflow_without_log),
    ("own-victim", "the agent is the OOM victim itself", memory.own_victim),
    ("power", "power cut in a guest of Debian's 6.1; of its kills those told as stored", power.cut),
)
FAULTS: Final = tuple(Fault(*fault) for fault in _LIST)

TESTED: Final = ("steps", "full", "flips-down", "mad", "overflow-no-log", "own-victim")
"""Whose short form is part of `make test`: one of each kind."""
