"""Costs by the number of processes of the host."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.snapshot import ProcessScanner
from otel_oom.snapshot.environ import EnvironReader
from otel_oom.snapshot.process_notes import ProcessNotes
from tests.bench.scale.growth import Cost, Dimension
from tests.bench.scale.kill_cost import measure_kills, measure_start, run_beside_backend
from tests.testlib.kernel.memcg import own_memcg
from tests.vmtest.programs import build_programs, program_path

SIZES: Final = (500, 5000, 50_000)

_LIMIT_BYTES: Final = 8 << 30
_PID_MAX: Final = Path("/proc/sys/kernel/pid_max")
_SPARE_PIDS: Final = 1 << 17
_TIMES: Final = 5
_FIRST_SCAN_S: Final = 3.0
_PROCESSES_A_SECOND: Final = 2500
"""Fewer than a scan for notes reads, with its pauses."""


def measure_processes(sizes: Iterable[int] = SIZES) -> Dimension:
    """Measure kills in a cgroup of their own beside many processes, and the scans of /proc."""
    build_programs()
    cpu, latency, rss, start = {}, {}, {}, {}
    scan, skipped, notes = {}, {}, {}
    for size in sizes:
        with sleeping_processes(size):
            with run_beside_backend() as (agent, backend):
                start[size], _ = measure_start(agent)
                # The first scan for notes takes some CPU, whether there are kills or not.
                time.sleep(_FIRST_SCAN_S + size / _PROCESSES_A_SECOND)
                cost = measure_kills(agent, backend)
                cpu[size], latency[size] = cost.cpu_ms, cost.latency_ms
                _, rss[size] = measure_start(agent)
            scan[size], skipped[size] = _measure_scan()
            notes[size] = _measure_notes()
    return Dimension(
        "processes",
        (
            Cost("a kill in a cgroup: CPU of the agent", "ms", cpu, "the cgroup's processes"),
            Cost("a kill in a cgroup: kernel to receiver, p50", "ms", latency),
            Cost(
                "a kill of the host: CPU of the scan", "ms", scan, "100 ms, and 100 ms for the list"
            ),
            Cost("a kill of the host: processes not scanned", "", skipped),
            Cost("notes of large processes: CPU of a scan", "ms", notes, "0.05 % of a core"),
            Cost("start: CPU", "s", start, "each process is read once"),
            Cost("RSS after 50 kills", "MB", rss),
        ),
    )


@contextmanager
def sleeping_processes(count: int) -> Iterator[None]:
    """Have ``count`` sleeping processes, in a cgroup and a PID namespace of their own.

    The end of their first process is the end of all (pid_namespaces(7)).
    """
    pid_max = _PID_MAX.read_text(encoding="ascii")
    _PID_MAX.write_text(str(max(int(pid_max), _SPARE_PIDS)), encoding="ascii")
    try:
        with own_memcg(_LIMIT_BYTES) as memcg:
            command = (
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *("unshare", "--pid", "--mount", "--fork", "--kill-child=KILL", "--"),
                *(program_path("sleepers"), memcg.procs, str(count)),
            )
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                try:
                    assert process.stdout is not None
                    assert process.stdout.readline() == b"ready\n"
                    yield
                finally:
                    process.kill()
    finally:
        _PID_MAX.write_text(pid_max, encoding="ascii")


def _measure_scan() -> tuple[float, float]:
    """Return the CPU of a scan of the host in milliseconds, and the processes that it skipped."""
    files = CgroupMount.find()
    # A new one for each run, since a scanner caches what it has read.
    scanners = iter([ProcessScanner(files) for _ in range(_TIMES)])
    skipped = []

    def scan() -> None:
        tasks = next(scanners).scan_domain(None, swapped=False)
        skipped.append(tasks.skipped if tasks else 0)

    return _measure_cpu_ms(scan), statistics.median(skipped)


def _measure_notes() -> float:
    """Return the CPU of a scan for notes, in milliseconds."""
    notes = ProcessNotes()
    with closing(EnvironReader(Path("/proc"), 0.1)) as reader:
        return _measure_cpu_ms(lambda: notes.scan(reader))


def _measure_cpu_ms(work: Callable[[], object]) -> float:
    """Return the median of a few runs in this thread, in milliseconds."""
    took = []
    for _ in range(_TIMES):
        began = time.thread_time()
        work()
        took.append((time.thread_time() - began) * 1e3)
    return statistics.median(took)
