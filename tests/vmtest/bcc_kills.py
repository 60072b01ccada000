"""The same kills by BCC and by libbpf, where a guest's kernel has its headers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.capture.bcc.source import BccSource
from otel_oom.capture.bpf.source import LibbpfSource
from tests.vmtest.scenario_result import SourceEvents
from tests.vmtest.scenarios import SCENARIOS
from tests.vmtest.source_recorder import SourceRecorder, drain_in_background, drain_until_ended

BCC_SCENARIOS: Final = ("memcg", "group")


def play_with_bcc() -> dict[str, Any] | None:
    """Return the events of both sources, and the seconds that compiling took."""
    if not Path("/lib/modules", os.uname().release, "build").exists():
        return None
    began = time.monotonic()
    with BccSource() as bcc, LibbpfSource() as libbpf:
        results: dict[str, Any] = {
            "seconds": time.monotonic() - began,
            "hook": bcc.hook,
            "decision_source": bcc.decision_source,
            "scenarios": {},
        }
        for name in BCC_SCENARIOS:
            recorders = [SourceRecorder(bcc), SourceRecorder(libbpf)]
            with drain_in_background(recorders):
                made = SCENARIOS[name]()
            drain_until_ended(recorders, len(made.pids))
            events = {recorder.source.name: SourceEvents.of(recorder) for recorder in recorders}
            results["scenarios"][name] = to_builtins({"made": made, "events": events})
    return results
