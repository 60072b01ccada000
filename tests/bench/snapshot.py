"""The cost of the snapshot before a kill is on the disk, and of the process scan after."""

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
from tests.bench.measurement import Measurement
from tests.testlib.samples.events import KILL

_TIMES: Final = 31
PROCESSES: Final = 500


def measure_snapshot() -> Iterator[Measurement]:
    """Measure the CPU time of reading cgroups and host, and that of scanning every process."""
    files = CgroupMount.find()
    root = Memcg(None, files.root if files else "/")
    assert KILL.decision is not None
    of_memcg = replace(KILL, memcg=root, decision=replace(KILL.decision, memcg=root))
    of_host = replace(KILL, memcg=None, decision=None, stack=())
    yield Measurement(
        "snapshot before a kill is on the disk, CPU",
        _measure_cpu_ms(lambda: take_snapshot(of_memcg, files)),
        "ms",
    )
    with ExitStack() as stack:
        for _ in range(PROCESSES - _count_processes()):
            stack.callback(stack.enter_context(subprocess.Popen(["sleep", "600"])).kill)
        name = f"scan for the largest of {_count_processes()} processes, CPU"
        # A new one for each run, since a scanner caches what it has read.
        scanners = iter([ProcessScanner(files) for _ in range(_TIMES)])
        took = _measure_cpu_ms(lambda: next(scanners).scan(of_host, swapped=False))
        yield Measurement(name, took, "ms", 2)


def _count_processes() -> int:
    return sum(entry.name.isdecimal() for entry in Path("/proc").iterdir())


def _measure_cpu_ms(work: Callable[[], object]) -> float:
    """Return the median of a few runs in this thread, in milliseconds."""
    took = []
    for _ in range(_TIMES):
        began = time.thread_time()
        work()
        took.append((time.thread_time() - began) * 1e3)
    return statistics.median(took)
