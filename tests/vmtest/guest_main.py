"""Make every kill, and write down what was told of it; runs in a guest.

    python -m tests.vmtest.guest_main FOLDER

FOLDER gets the results, whole at once: for each scenario the events that each source captured,
what the kernel logged, and what it counted. Nothing is judged here. On a machine that is no guest
only those scenarios are played that can do it no harm.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins
from msgspec.structs import replace

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.kmsg import backlog
from otel_oom.capture.kmsg.report_lookup import OomReportIndex, open_report_index
from otel_oom.capture.kmsg.source import KmsgSource
from otel_oom.capture.source import AnnotateKill, SupportsMarks
from otel_oom.linux.clock import boot_id
from otel_oom.model.events import NoVictim, OomKill, ReaperStep, VictimExit
from otel_oom.snapshot import ProcessScanner, add_limit_cgroup, take_snapshot
from otel_oom.snapshot.host_stats import read_vm_settings
from tests.testlib.kernel.loaded_programs import list_loaded_programs
from tests.testlib.kernel.memcg import CGROUP_MOUNT
from tests.testlib.kernel.oracle import (
    KernelLog,
    message_text,
    parse_killed_lines,
    read_oom_kill_count,
)
from tests.vmtest.bcc_kills import compiled
from tests.vmtest.bpftrace_recipe import recipe
from tests.vmtest.pinned_kills import unattended
from tests.vmtest.requirements import IN_GUEST, unmet
from tests.vmtest.scenario_kills import Made, UnplayableError
from tests.vmtest.scenarios import SCENARIOS
from tests.vmtest.source_recorder import Completed, Watched, drained, finish

_REPORTS_S: Final = 5.0
_REPORTS: Final = 8
"""The kernel reports 10 kills in that time whole; of two more nothing is known here."""


def main(folder: Path) -> None:
    """Try every scenario; what cannot be attached or made is told as text, too."""
    results: dict[str, Any] = {"release": os.uname().release, "scenarios": {}}
    if IN_GUEST:
        recipe()  # while it starts, the others are played
        # Only the guest's shell is spared.
        Path("/proc/self/oom_score_adj").write_text("0", encoding="ascii")
    try:
        if IN_GUEST:
            # Before the last scenarios, which leave nothing of cgroup v2 to play in.
            results["unattended"] = unattended()
            results["compiled"] = compiled()
            time.sleep(_REPORTS_S)
        with (
            LibbpfSource() as bpf,
            open_report_index(bpf) as annotate,
            KmsgSource() as kmsg,
            KernelLog() as log,
        ):
            complete = partial(_complete, annotate)
            results |= {
                "hook": bpf.hook,
                "decision_source": bpf.decision_source or OomReportIndex.source,
                "unavailable": bpf.unavailable,
            }
            results |= {"v1": CGROUP_MOUNT.v1, "pressure": Path("/proc/pressure/memory").exists()}
            results["memory"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            results["programs"] = [asdict(program) for program in list_loaded_programs(os.getpid())]
            if not IN_GUEST:
                time.sleep(_REPORTS_S)  # there may have been kills before
            for name, scenario in SCENARIOS.items():
                if not unmet(name):
                    watched = [Watched(bpf, complete), Watched(kmsg)]
                    results["scenarios"][name] = _tried(scenario, watched, log)
            results["left_out"] = {
                each.name: each.recursion_misses for each in list_loaded_programs(os.getpid())
            }
            results["loss"] = {
                source.name: to_builtins(source.lost_events()) for source in (bpf, kmsg)
            }
    except Exception:  # noqa: BLE001  whatever it was, it is told outside
        results["failed"] = traceback.format_exc()
    unfinished = folder / "results.new"
    unfinished.write_text(json.dumps(results), encoding="utf-8")
    unfinished.rename(folder / "results.json")


def _tried(scenario: Callable[[], Made], watched: Sequence[Watched], log: KernelLog) -> Any:  # noqa: ANN401  JSON
    bpf = watched[0].source
    assert isinstance(bpf, SupportsMarks)
    counted, began = read_oom_kill_count(), time.monotonic()
    before = backlog.read_last_sequence()
    list(log.read_messages())
    try:
        with drained(watched):
            made = scenario()
        finish(watched, len(made.pids))
        time.sleep(max(0.0, began + _REPORTS_S / _REPORTS - time.monotonic()))
    except UnplayableError as error:
        return {"unplayable": str(error)}
    except Exception:  # noqa: BLE001  the other scenarios go on
        return {"failed": traceback.format_exc()}
    records = list(log.read_records())
    messages = list(map(message_text, records))
    return {
        "made": asdict(made),
        "told": {each.source.name: _by_kind(each) for each in watched},
        "log": "".join(messages),
        "records": records,
        "found": [
            to_builtins(kill)
            for kill in backlog.read_backlog(boot_id(), "kmsg", before, bpf.read_marks).kills
        ],
        "logged": [asdict(line) for line in parse_killed_lines(messages)],
        "counted": read_oom_kill_count() - counted,
        "seconds": time.monotonic() - began,
    }


_SCANNER: Final = ProcessScanner(CGROUP_MOUNT)


def _complete(annotate: AnnotateKill, kill: OomKill) -> Completed:
    """Read what the agent reads of a kill."""
    snapshot = take_snapshot(kill, CGROUP_MOUNT)
    kill = annotate(kill)
    snapshot = replace(add_limit_cgroup(kill, snapshot, CGROUP_MOUNT), vm_sysctl=read_vm_settings())
    swapped = bool(snapshot.host and snapshot.host.swap_used)
    return Completed(kill, snapshot, _SCANNER.scan(kill, swapped=swapped))


_KINDS: Final = {"kills": OomKill, "exits": VictimExit, "in_vain": NoVictim, "reapings": ReaperStep}


def _by_kind(watched: Watched) -> dict[str, Any]:
    return {
        name: [to_builtins(event) for event in watched.events if isinstance(event, kind)]
        for name, kind in _KINDS.items()
    } | {"seen": to_builtins(watched.seen), "scanned": to_builtins(watched.scanned)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
