"""Enrichment of a kill."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.types import Memcg, OomTask, TaskList
from tests.testlib.samples.events import (
    HOST,
    KILL,
    SNAPSHOT,
    roundtrip,
    sample_enriched_kill,
)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/web.service", "web.service"),
        ("/shop.slice", "shop.slice"),
        ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service"),
        # Their files are in that user's home, and not the host's of the same name.
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice", None),
        ("/system.slice/web.service/worker", None),
        ("/docker/0123", None),
    ],
)
def test_limit_setting_is_that_of_the_system_unit_with_the_limit(
    monkeypatch: pytest.MonkeyPatch, path: str, unit: str | None
) -> None:
    searched: list[tuple[str, int]] = []
    monkeypatch.setattr(
        "otel_oom.enrich.event.find_memory_setting", lambda *args: searched.append(args)
    )
    assert KILL.decision
    sample_enriched_kill(decision=replace(KILL.decision, memcg=Memcg(id=41, path=path)))
    assert searched == ([(unit, 64 << 20)] if unit else [])


def test_kernel_report_of_the_snapshot_joins_the_kill() -> None:
    """Unless the kill has one of its own."""
    listed = TaskList("/a", KILL.boottime_ns, 1, 0, (OomTask(7, "listed", 4096, 0, 0),))
    snapshot = replace(SNAPSHOT, kernel_report="the report", kernel_report_tasks=listed)
    joined = enrich_kill(KILL, roundtrip(snapshot), VictimOutcome(None), 0, HOST)
    assert joined.event.original == "the report"
    assert joined.snapshot.tasks is not None
    assert [task.comm for task in joined.snapshot.tasks.largest] == ["listed"]
    own = enrich_kill(replace(KILL, original="its own"), snapshot, VictimOutcome(None), 0, HOST)
    assert own.event.original == "its own"
