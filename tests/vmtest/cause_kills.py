"""Kills of a host that is out of memory for a rare reason."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.kmsg.report_lookup import open_report_index
from otel_oom.linux.temporary_cgroup import Cgroup
from otel_oom.model.events import OomKill
from tests.testlib.kernel.kills import run_python, wait_until_killed
from tests.vmtest.programs import program_path
from tests.vmtest.source_recorder import (
    SourceRecorder,
    complete_kill,
    drain_in_background,
    wait_until_completed,
)
from tests.vmtest.victim_code import ALLOCATE_4_GIB, WAIT, hold_memory

_VM: Final = Path("/proc/sys/vm")
_HUGE_PAGE_KB: Final = 2048


def huge_pages() -> int:
    """Reserve more than half of the host as huge pages; one process takes the rest."""
    with _setting("nr_hugepages", _share_of_memory(0.6)), _setting("overcommit_memory", 1):
        return _exceed_host_memory()


def fragmented() -> int:
    """Have a fifth of the host free in single pages, and request four in one piece."""
    with (
        _setting("nr_hugepages", _share_of_memory(0.45)),
        _setting("compact_unevictable_allowed", 0),
    ):
        mib = str(_share_of_available(0.8))
        with subprocess.Popen([program_path("fragment"), mib]) as process:
            wait_until_killed(process)
        wait_until_completed([process.pid])
        return process.pid


def spared() -> int:
    """Have the kernel kill the allocating process, which is smaller than another one."""
    with (
        _protect_own_process(),
        _setting("nr_hugepages", _share_of_memory(0.45)),
        _setting("overcommit_memory", 1),
        _setting("oom_kill_allocating_task", 1),
        run_python(f"import time\n{hold_memory(_share_of_available(0.6))}{WAIT}") as large,
    ):
        assert large.stdout is not None
        large.stdout.readline()
        return _exceed_host_memory()


@contextmanager
def _protect_own_process() -> Iterator[None]:
    """Be no victim, as any process that allocates can be one."""
    score = Path("/proc/self/oom_score_adj")
    score.write_text("-1000", encoding="ascii")
    try:
        yield
    finally:
        score.write_text("0", encoding="ascii")


def _exceed_host_memory() -> int:
    with run_python(ALLOCATE_4_GIB, Cgroup().procs) as process:
        wait_until_killed(process)
    wait_until_completed([process.pid])
    return process.pid


SCENARIOS: Final[tuple[Callable[[], int], ...]] = (huge_pages, fragmented, spared)


def play_causes() -> dict[str, Any]:
    """Return the kill of each scenario, as BPF, log and /proc had it."""
    results: dict[str, Any] = {}
    with LibbpfSource() as bpf, open_report_index(bpf) as annotate:
        for scenario in SCENARIOS:
            recorder = SourceRecorder(bpf, partial(complete_kill, annotate))
            with drain_in_background([recorder]):
                pid = scenario()
            kill = recorder.of_type(OomKill)[0]
            results[scenario.__name__] = {
                "pid": pid,
                "kill": to_builtins(kill),
                "snapshot": to_builtins(recorder.snapshots[0]),
                "scanned": to_builtins(recorder.scanned[0]),
            }
    return results


@contextmanager
def _setting(name: str, value: int) -> Iterator[None]:
    before = (_VM / name).read_text(encoding="ascii")
    (_VM / name).write_text(str(value), encoding="ascii")
    try:
        yield
    finally:
        (_VM / name).write_text(before, encoding="ascii")


def _share_of_memory(share: float) -> int:
    """Return the number of huge pages in a share of the host's memory."""
    return int(_read_meminfo("MemTotal") * share) // _HUGE_PAGE_KB


def _share_of_available(share: float) -> int:
    """Return a share of the host's available memory in MiB."""
    return int(_read_meminfo("MemAvailable") * share) >> 10


def _read_meminfo(name: str) -> int:
    """Return a value in kB."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
