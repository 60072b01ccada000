"""The same kills by BCC and by libbpf, where a guest's kernel has its headers."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.capture.bcc.source import BccSource
from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.model.events import OomKill, VictimExit
from tests.vmtest.scenarios import SCENARIOS
from tests.vmtest.source_recorder import Watched, drained, finish

PLAYED: Final = ("memcg", "group")


def compiled() -> dict[str, Any] | None:
    """What both tell of two scenarios, and what compiling took."""
    if not Path("/lib/modules", os.uname().release, "build").exists():
        return None
    began = time.monotonic()
    with BccSource() as bcc, LibbpfSource() as libbpf:
        results: dict[str, Any] = {
            "seconds": time.monotonic() - began,
            "hook": bcc.hook,
            "decision_source": bcc.decision_source,
            "played": {},
        }
        for name in PLAYED:
            watched = [Watched(bcc), Watched(libbpf)]
            with drained(watched):
                made = SCENARIOS[name]()
            finish(watched, len(made.pids))
            told = {each.source.name: _by_kind(each) for each in watched}
            results["played"][name] = {"made": asdict(made), "told": told}
    return results


def _by_kind(watched: Watched) -> dict[str, Any]:
    return {
        name: [to_builtins(event) for event in watched.events if isinstance(event, kind)]
        for name, kind in (("kills", OomKill), ("exits", VictimExit))
    }
