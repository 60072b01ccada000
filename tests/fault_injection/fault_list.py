"""The list of faults and the functions that inject them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.fault_injection import crashes, disks, memory, network, power, tenants
from tests.fault_injection.tally import Tally
from tests.fault_injection.trial import Trial, run_trial


class Inject(Protocol):
    """A function that injects a fault, in its short form as one test among others."""

    def __call__(self, trial: Trial, *, short: bool) -> None:
        """Inject it, and leave the agent without undelivered kills."""


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    name: str
    """The name on the command line."""
    description: str
    """The first column of the table."""
    inject: Inject

    def run(self, folder: Path, *, short: bool) -> Tally:
        """Inject it in an empty folder.

        Raises:
            AssertionError: the agent did not recover.
        """
        with run_trial(folder) as trial:
            self.inject(trial, short=short)
            return trial.tally()


_LIST: Final = (
    ("steps", "SIGKILL at each step, from start to stop", crashes.kill_at_each_step),
    ("random", "SIGKILL at random times", crashes.kill_at_random_times),
    ("full", "disk full, before the start and while running", disks.fill_disk),
    (
        "folder",
        "state directory deleted, while running and while stopped",
        disks.delete_state_directory,
    ),
    ("read-only", "file system remounted read-only, as after an error", disks.remount_read_only),
    (
        "flips-down",
        "bits flipped in database and log, while stopped",
        disks.flip_bits_while_stopped,
    ),
    ("flips-up", "bits flipped in database and log, while running", disks.flip_bits_while_running),
    ("down", "backend ends and restarts", network.stop_backend),
    ("silent", "backend never responds", network.keep_backend_silent),
    ("unavailable", "backend responds 503 for a long time", network.make_backend_unavailable),
    (
        "garbage",
        "backend responds garbage, or accepts everything and disconnects",
        network.make_backend_misbehave,
    ),
    ("moved", "another endpoint after a restart", network.change_endpoint),
    ("overflow", "SIGSTOP until the ring buffer overflows", memory.overflow_buffer),
    ("overflow-no-log", "the same, without the kernel log", memory.overflow_buffer_without_log),
    ("own-victim", "the agent itself is the OOM victim", memory.kill_agent_out_of_memory),
    (
        "tenants",
        "a hostile tenant beside a quiet one, for five minutes",
        tenants.attack_a_quiet_tenant,
    ),
    (
        "power",
        "power cut in a guest of Debian's 6.1; only kills that it had logged as stored",
        power.cut_power,
    ),
)
FAULTS: Final = tuple(Fault(*fault) for fault in _LIST)

SHORT_FAULTS: Final = (
    *("steps", "full", "flips-down", "garbage", "overflow-no-log", "own-victim", "tenants"),
)
"""The faults whose short form is part of `make test`: one of each kind."""
