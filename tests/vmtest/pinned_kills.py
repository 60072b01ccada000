"""A kill while no process captures, which the programs pinned in bpffs record."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.source import PIN_DIR
from tests.testlib.kernel.oracle import KernelLog
from tests.vmtest.scenario_result import SourceEvents
from tests.vmtest.scenarios import SCENARIOS
from tests.vmtest.source_recorder import SourceRecorder, drain_until_ended


def play_without_process() -> dict[str, Any]:
    """Return the events of the next process; bpffs is mounted for that where it is not yet."""
    with LibbpfSource(pin_dir=PIN_DIR):
        pinned = [link.name for link in PIN_DIR.glob("wire-*/links/*")]
    with KernelLog() as log:
        made = SCENARIOS["memcg"]()
        killed_lines = log.read_killed_lines()
    with LibbpfSource(pin_dir=PIN_DIR) as source:
        recorder = SourceRecorder(source)
        drain_until_ended([recorder], len(made.pids))
    results: dict[str, Any] = to_builtins(
        {
            "made": made,
            "pinned": pinned,
            "events": SourceEvents.of(recorder),
            "killed_lines": killed_lines,
        }
    )
    return results
