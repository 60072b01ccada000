"""Watch OOM kills from a program of your own, without agent and OTLP.

    sudo .venv/bin/python examples/library.py

It prints a line for each kill. An argument is the number of kills after which it ends.
"""

from __future__ import annotations

import itertools
import sys

from otel_oom.capture import watch
from otel_oom.model.events import OomKill


def main(limit: int | None) -> None:
    """Print kills as they happen."""
    with watch() as events:
        print("watching", flush=True)
        kills = (event for event in events if isinstance(event, OomKill))
        for kill in itertools.islice(kills, limit):
            memory = kill.memory.resident >> 20 if kill.memory else "an unknown number of"
            # A process chooses its comm: repr() escapes control characters for the terminal.
            print(f"{kill.victim.comm!r} (pid {kill.victim.tgid}) held {memory} MiB", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
