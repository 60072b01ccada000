"""The real agent, with a step at which it dies.

    python -m tests.fault_injection.agent [--die-at STEP --pass N --note FILE] [--ring-bytes N]
        -- run …

At the N-th pass of the step it writes the step's name to FILE, synced, and kills itself by
SIGKILL, so that neither the product nor this program can clean up.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import signal
import sys
from pathlib import Path

from otel_oom import cli
from tests.fault_injection import steps


def main() -> int:
    """Prepare this process, then run the agent in it."""
    words = argparse.ArgumentParser()
    words.add_argument("--die-at", default="")
    words.add_argument("--pass", dest="number", type=int, default=1)
    words.add_argument("--note", type=Path)
    words.add_argument("--ring-bytes", type=int)
    words.add_argument("of_the_agent", nargs="+")
    given = words.parse_args()
    if given.die_at:
        kill_self_at(steps.find_step(given.die_at), given.number, given.note)
    if given.ring_bytes:
        set_ring_size(given.ring_bytes)
    return cli.main(given.of_the_agent)


def kill_self_at(step: steps.Step, number: int, note: Path) -> None:
    """Kill this process at that pass of a step, after writing ``note``."""
    passes = itertools.count(1)

    def passed() -> None:
        if next(passes) == number:
            file = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(file, step.name.encode())
            os.fsync(file)
            os.kill(os.getpid(), signal.SIGKILL)

    steps.wrap(step, passed)


def set_ring_size(size: int) -> None:
    """Give the kernel's buffer another size, for which there is no option."""
    from otel_oom.capture.bpf import source  # noqa: PLC0415  only where it is needed

    source.LibbpfSource = functools.partial(source.LibbpfSource, size)  # type: ignore[misc,assignment]


if __name__ == "__main__":
    sys.exit(main())
