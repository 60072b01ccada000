"""The agent with the times of its steps in a file: ``traced_agent FILE COMMAND... run ...``.

Of the agent's command only the words from ``run`` on count. The product has no code for this.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Final

from otel_oom import cli
from otel_oom.model.events import OomKill, VictimExit

STEPS: Final = {
    "record": "otel_oom.agent.recorder:EventRecorder.record",
    "insert": "otel_oom.store.store:Store.insert",
    "complete": "otel_oom.store.store:Store.complete",
    "enqueue": "otel_oom.store.store:Store.enqueue",
}
"""Methods whose first argument is the event, or a list of entries with its uid."""


class StepTrace:
    """Times of steps on CLOCK_BOOTTIME, which the kernel's records have too."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, str, int, int]] = []
        self._kills: dict[str, tuple[int | None, int]] = {}
        self._exits: dict[int, int] = {}

    def wrap(self, name: str, function: str) -> None:
        """Note the times of a method."""
        module, _, path = function.partition(":")
        *owners, attribute = path.split(".")
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        method = getattr(owner, attribute)

        @functools.wraps(method)
        def traced(this: object, subject: object, *arguments: object, **named: object) -> object:
            begin_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            result = method(this, subject, *arguments, **named)
            self._note(name, subject, begin_ns)
            return result

        setattr(owner, attribute, traced)

    def save(self, path: Path) -> None:
        """Write what was noted: steps by name and uid, kills by uid, exits by pid."""
        noted = {"steps": self._steps, "kills": self._kills, "exits": self._exits}
        path.write_text(json.dumps(noted), encoding="ascii")

    def _note(self, name: str, subject: object, begin_ns: int) -> None:
        keys: list[object] = []
        if isinstance(subject, VictimExit):
            self._exits[subject.tgid] = subject.boottime_ns
        elif isinstance(subject, OomKill):
            keys = [subject.uid]
            self._kills[subject.uid] = (subject.victim.tgid, subject.boottime_ns)
        elif isinstance(subject, list):
            keys = [entry.uid for entry in subject]
        end_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._steps += [(name, str(key), begin_ns, end_ns) for key in keys]


def main() -> int:
    """Run the agent."""
    path, words = Path(sys.argv[1]), sys.argv[2:]
    trace = StepTrace()
    for name, function in STEPS.items():
        trace.wrap(name, function)
    try:
        return cli.main(words[words.index("run") :])
    finally:
        trace.save(path)


if __name__ == "__main__":
    sys.exit(main())
