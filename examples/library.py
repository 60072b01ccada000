"""Watch OOM kills from a program of your own; no agent, no OTLP.

    sudo .venv/bin/python examples/library.py

It prints a line for each kill, and ends after the number of kills that it is given.
"""

from __future__ import annotations

import itertools
import sys

from otel_oom.capture import watch
from otel_oom.model.events import OomKill


def main(most: int | None) -> None:
    """Print kills as they happen."""
    with watch() as events:
        print("watching", flush=True)
        kills = (event for event in events if isinstance(event, OomKill))
        for kill in itertools.islice(kills, most):
            memory = kill.memory.resident >> 20 if kill.memory else "an unknown number of"
            # comm is the process's own choice: repr() keeps it from steering the terminal.
            print(f"{kill.victim.comm!r} (pid {kill.victim.tgid}) held {memory} MiB", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
