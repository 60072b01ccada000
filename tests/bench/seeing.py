"""What it costs to see what is around a kill: before it is on the disk, and after."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.types import Memcg
from otel_oom.snapshot import ProcessScanner, take_snapshot
from tests.bench.figure import Figure
from tests.testlib.samples.events import KILL

_TIMES: Final = 31
PROCESSES: Final = 500


def sees() -> Iterator[Figure]:
    """The CPU time of a look at the cgroups and the host, and of one at every process."""
    files = CgroupMount.find()
    root = Memcg(None, files.root if files else "/")
    assert KILL.decision is not None
    of_memcg = replace(KILL, memcg=root, decision=replace(KILL.decision, memcg=root))
    of_host = replace(KILL, memcg=None, decision=None, stack=())
    yield Figure(
        "look before the row is on the disk, CPU",
        _cpu_ms(lambda: take_snapshot(of_memcg, files)),
        "ms",
    )
    with ExitStack() as stack:
        for _ in range(PROCESSES - _processes()):
            stack.callback(stack.enter_context(subprocess.Popen(["sleep", "600"])).kill)
        name = f"look for the largest of {_processes()} processes, CPU"
        # Each with a memory of its own, for it would share what it has seen.
        scanners = iter([ProcessScanner(files) for _ in range(_TIMES)])
        took = _cpu_ms(lambda: next(scanners).scan(of_host, swapped=False))
        yield Figure(name, took, "ms", 2)


def _processes() -> int:
    return sum(entry.name.isdecimal() for entry in Path("/proc").iterdir())


def _cpu_ms(work: Callable[[], object]) -> float:
    """The median of a few runs in this thread, in milliseconds."""
    took = []
    for _ in range(_TIMES):
        began = time.thread_time()
        work()
        took.append((time.thread_time() - began) * 1e3)
    return statistics.median(took)
