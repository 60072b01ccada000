"""The agent as it is, which a test has told where to die.

    python -m tests.fault_injection.agent [--die-at STEP --pass N --note FILE] [--ring-bytes N]
        -- run …

At the N-th pass of the step it writes the step's name to FILE, synced, and kills itself by
SIGKILL: there is no way to clean up after that, for the product or for us.
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
    """Prepare this process, then be the agent."""
    words = argparse.ArgumentParser()
    words.add_argument("--die-at", default="")
    words.add_argument("--pass", dest="number", type=int, default=1)
    words.add_argument("--note", type=Path)
    words.add_argument("--ring-bytes", type=int)
    words.add_argument("of_the_agent", nargs="+")
    given = words.parse_args()
    if given.die_at:
        die_at(steps.find(given.die_at), given.number, given.note)
    if given.ring_bytes:
        take_ring(given.ring_bytes)
    return cli.main(given.of_the_agent)


def die_at(step: steps.Step, number: int, note: Path) -> None:
    """Kill this process at the pass of that ``number``, having written to ``note`` that it is."""
    passes = itertools.count(1)

    def passed() -> None:
        if next(passes) == number:
            file = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(file, step.name.encode())
            os.fsync(file)
            os.kill(os.getpid(), signal.SIGKILL)

    steps.wrap(step, passed)


def take_ring(size: int) -> None:
    """Give the kernel's buffer another size, which no option does."""
    from otel_oom.capture.bpf import source  # noqa: PLC0415  where it is asked for

    source.LibbpfSource = functools.partial(source.LibbpfSource, size)  # type: ignore[misc,assignment]


if __name__ == "__main__":
    sys.exit(main())
