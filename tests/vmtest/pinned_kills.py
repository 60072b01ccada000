"""A kill while no process captures: what the kernel has of it is pinned in bpffs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from msgspec import to_builtins

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.source import PIN_DIR
from otel_oom.model.events import OomKill, VictimExit
from tests.testlib.kernel.oracle import KernelLog, parse_killed_lines
from tests.vmtest.scenarios import SCENARIOS
from tests.vmtest.source_recorder import Watched, finish


def unattended() -> dict[str, Any]:
    """What the next process tells of it; bpffs is mounted for that, if this guest has none."""
    with LibbpfSource(pin_dir=PIN_DIR):
        pinned = [link.name for link in PIN_DIR.glob("wire-*/links/*")]
    with KernelLog() as log:
        made = SCENARIOS["memcg"]()
        messages = list(log.read_messages())
    with LibbpfSource(pin_dir=PIN_DIR) as source:
        watched = Watched(source)
        finish([watched], len(made.pids))
    return {
        "made": asdict(made),
        "pinned": pinned,
        "kills": [to_builtins(each) for each in watched.events if isinstance(each, OomKill)],
        "exits": [to_builtins(each) for each in watched.events if isinstance(each, VictimExit)],
        "logged": [asdict(line) for line in parse_killed_lines(messages)],
    }
