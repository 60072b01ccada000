"""What runs in a guest: make every kill, and write down what was told of it.

    python -m tests.guests.inside FOLDER

FOLDER gets the kernel's log and then, whole at once, the results: for each scenario the events
that were captured, the kernel log's own "Killed process" lines, and what the kernel counted.
Nothing is judged here.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from otel_oom.capture.bpf import LibbpfSource
from otel_oom.event import Event, NoVictim, OomKill, VictimExit
from tests.guests.scenarios import SCENARIOS, Made
from tests.support.kernel import KernelLog, oom_kill_count

_DRAIN_S: Final = 30.0


def main(folder: Path) -> None:
    """Try every scenario; what cannot be attached or made is told as text, too."""
    results: dict[str, Any] = {"release": os.uname().release, "scenarios": {}}
    # Only the guest's shell is spared.
    Path("/proc/self/oom_score_adj").write_text("0", encoding="ascii")
    try:
        with LibbpfSource() as source, KernelLog() as log:
            results |= {"hook": source.hook, "context": source.context}
            results["refused"] = source.refused
            results["verified_insns"] = _verified()
            for name, scenario in SCENARIOS.items():
                results["scenarios"][name] = _tried(scenario, source, log)
            results["loss"] = asdict(source.loss())
    except Exception:  # noqa: BLE001  whatever it was, it is told outside
        results["failed"] = traceback.format_exc()
    (folder / "kernel.log").write_text(_kernel_log(), encoding="utf-8")
    unfinished = folder / "results.new"
    unfinished.write_text(json.dumps(results), encoding="utf-8")
    unfinished.rename(folder / "results.json")


def _tried(scenario: Callable[[], Made], source: LibbpfSource, log: KernelLog) -> dict[str, Any]:
    counted, began = oom_kill_count(), time.monotonic()
    log.killed()
    try:
        made = scenario()
    except Exception:  # noqa: BLE001  the other scenarios go on
        return {"failed": traceback.format_exc()}
    events = _drain(source, len(made.pids))
    return {
        "made": asdict(made),
        "kills": [event.to_json() for event in events if isinstance(event, OomKill)],
        "exits": [event.to_json() for event in events if isinstance(event, VictimExit)],
        "in_vain": [event.to_json() for event in events if isinstance(event, NoVictim)],
        "logged": [asdict(line) for line in log.killed()],
        "counted": oom_kill_count() - counted,
        "seconds": time.monotonic() - began,
    }


def _drain(source: LibbpfSource, exits: int) -> list[Event]:
    """What ``source`` has, once that many victims have exited, or not in time."""
    events: list[Event] = []
    deadline = time.monotonic() + _DRAIN_S
    while True:
        source.drain(events.append)
        ended = [event for event in events if isinstance(event, VictimExit)]
        if len(ended) >= exits or time.monotonic() > deadline:
            return events
        select.select([source], [], [], 0.1)


def _verified() -> list[int]:
    """How many instructions the verifier went through for each program, if this kernel tells."""
    found = set()
    for info in Path("/proc/self/fdinfo").iterdir():
        with suppress(OSError):
            found |= set(re.findall(r"verified_insns:\t(\d+)", info.read_text(encoding="ascii")))
    return sorted(int(number) for number in found)


def _kernel_log() -> str:
    """All of the kernel's log, each record's text on lines of its own."""
    messages = []
    descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with suppress(BlockingIOError):
        while True:
            record = os.read(descriptor, 8192).decode("utf-8", "replace")
            messages.append(record.partition(";")[2])
    os.close(descriptor)
    return "".join(messages)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
