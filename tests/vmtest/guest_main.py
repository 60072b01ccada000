"""Play every scenario, and write down what was captured, logged and counted.

    python -m tests.vmtest.guest_main FOLDER

FOLDER gets the results, which the tests judge outside. A guest first reads the records of earlier
panics. The machine itself plays only those scenarios that cannot harm it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.capture.bpf.loader import OBJECT
from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.kmsg import backlog
from otel_oom.capture.kmsg.reader import KmsgReader
from otel_oom.capture.kmsg.report_lookup import open_report_index
from otel_oom.capture.kmsg.source import KmsgSource
from otel_oom.linux.clock import boot_id
from otel_oom.model.events import OomKill
from tests.testlib.kernel.loaded_programs import list_loaded_programs
from tests.testlib.kernel.memcg import CGROUP_MOUNT
from tests.testlib.kernel.oracle import KernelLog, read_oom_kill_count
from tests.testlib.kernel.ring_storm import RING_BYTES, check_ring_share
from tests.vmtest.bcc_kills import play_with_bcc
from tests.vmtest.bpftrace import start_bpftrace
from tests.vmtest.daemon_signal import record_daemon_signal
from tests.vmtest.panics import read_panics
from tests.vmtest.pinned_kills import play_without_process
from tests.vmtest.programs import fill_cgroup
from tests.vmtest.requirements import IN_GUEST, find_unmet
from tests.vmtest.results_file import write_results
from tests.vmtest.scenario_kills import NotPlayableError, ScenarioKills
from tests.vmtest.scenario_result import ScenarioResult, SourceEvents
from tests.vmtest.scenarios import SCENARIOS
from tests.vmtest.source_recorder import (
    SourceRecorder,
    complete_kill,
    drain_in_background,
    drain_until_ended,
)

_LOCK_ALL: Final = 7
"""MCL_CURRENT, MCL_FUTURE and MCL_ONFAULT of mlockall(2)."""

_REPORTS_S: Final = 5.0
_REPORTS: Final = 8
"""The kernel prints 10 whole reports in that time; two may be those of other kills."""


def main(folder: Path) -> None:
    """Play every scenario; a failure is part of the results, as text."""
    results: dict[str, Any] = {"release": os.uname().release, "scenarios": {}}
    if IN_GUEST:
        start_bpftrace()  # it starts while the others are played
        _lock_memory()
        # Only the guest's shell is protected.
        Path("/proc/self/oom_score_adj").write_text("0", encoding="ascii")
    try:
        if IN_GUEST:
            read_panics(folder)
            # First, since the last scenarios leave no memory controller of cgroup v2.
            results["without_process"] = play_without_process()
            results["bcc"] = play_with_bcc()
            results["ring_share"] = _check_ring_share()
            results["daemon_signal"] = record_daemon_signal()
            time.sleep(_REPORTS_S)
        _play_scenarios(results)
    except Exception:  # noqa: BLE001  the tests report it
        results["failed"] = traceback.format_exc()
    write_results(folder, results)


def _lock_memory() -> None:
    """Keep this program in memory: its files are this machine's, and slow to read again."""
    ctypes.CDLL(None).mlockall(_LOCK_ALL)


def _mapped_libbpf() -> str:
    """Return the path of the loaded library."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return next(line.split()[-1] for line in maps.splitlines() if "libbpf" in line)


def _check_ring_share() -> str:
    """Return the failure as text; empty without one."""
    try:
        with LibbpfSource(RING_BYTES) as source:
            check_ring_share(source, fill_cgroup)
    except Exception:  # noqa: BLE001  the test reports it
        return traceback.format_exc()
    return ""


def _play_scenarios(results: dict[str, Any]) -> None:
    with (
        LibbpfSource() as bpf,
        open_report_index(bpf) as annotate,
        KmsgSource() as kmsg,
        KernelLog() as log,
    ):
        results |= {
            "hook": bpf.hook,
            "decision_source": bpf.decision_source or KmsgReader.source,
            "unavailable": bpf.unavailable,
            "v1": CGROUP_MOUNT.v1,
            "libbpf": _mapped_libbpf(),
            "object": hashlib.sha256(OBJECT.read_bytes()).hexdigest(),
            "pressure": Path("/proc/pressure/memory").exists(),
            "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "programs": to_builtins(list_loaded_programs(os.getpid())),
        }
        if not IN_GUEST:
            time.sleep(_REPORTS_S)  # there may have been kills before
        after, recovered = backlog.read_last_sequence(), list[OomKill]()
        played: dict[str, ScenarioResult | dict[str, str]] = {}
        playable = [name for name in SCENARIOS if not find_unmet(name)]
        for name in playable:
            recorders = [
                SourceRecorder(bpf, partial(complete_kill, annotate)),
                SourceRecorder(kmsg),
            ]
            played[name] = _play(SCENARIOS[name], recorders, log)
            # An emulated processor needs seconds to read the log. A guest's log keeps all.
            if not IN_GUEST or name == playable[-1]:
                logged = backlog.read_backlog(boot_id(), "kmsg", after, bpf.read_marks)
                recovered += logged.kills
                after = logged.sequence
        results["scenarios"] = {
            name: to_builtins(
                result.with_recovered(recovered) if isinstance(result, ScenarioResult) else result
            )
            for name, result in played.items()
        }
        results["recursion_misses"] = {
            program.name: program.recursion_misses for program in list_loaded_programs(os.getpid())
        }
        results["lost"] = {source.name: to_builtins(source.lost_events()) for source in (bpf, kmsg)}


def _play(
    scenario: Callable[[], ScenarioKills], recorders: Sequence[SourceRecorder], log: KernelLog
) -> ScenarioResult | dict[str, str]:
    counted, began = read_oom_kill_count(), time.monotonic()
    list(log.read_records())
    try:
        with drain_in_background(recorders):
            made = scenario()
        drain_until_ended(recorders, len(made.pids))
        time.sleep(max(0.0, began + _REPORTS_S / _REPORTS - time.monotonic()))
    except NotPlayableError as error:
        return {"not_playable": str(error)}
    except Exception:  # noqa: BLE001  the other scenarios are played
        return {"failed": traceback.format_exc()}
    return ScenarioResult(
        made,
        {recorder.source.name: SourceEvents.of(recorder) for recorder in recorders},
        list(log.read_records()),
        [],
        read_oom_kill_count() - counted,
        time.monotonic() - began,
        os.sysconf("SC_PAGE_SIZE"),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
