"""What the ingest stage stores beside the events of its sources."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from otel_oom.agent.ingest_stage import IngestOptions, open_ingest, store_panic
from otel_oom.agent.stats import Stats
from otel_oom.agent.watchdog import Watchdog
from otel_oom.capture.userspace import watch
from otel_oom.linux.containers.service import ContainerService
from otel_oom.snapshot.environ import EnvironReader
from otel_oom.store import Store
from tests.testlib.ingest import ScriptedSource
from tests.testlib.samples.events import PANIC


def test_a_panic_counts_once(tmp_path: Path) -> None:
    """Each start finds it again; the alert OomPanic is made of the count."""
    with Store(tmp_path / "state") as store:
        stats = [Stats(), Stats()]
        assert [store_panic(store, each, PANIC) for each in stats] == [True, False]
    assert [each.stored["panic"] for each in stats] == [1, 0]
    assert [each.captured["panic"] for each in stats] == [1, 0]


@pytest.mark.parametrize("daemons", [(), ("earlyoom.service",)])
def test_only_victims_of_userspace_daemons_have_a_thread_that_reads_their_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, daemons: tuple[str, ...]
) -> None:
    """What a victim of the kernel was started with is never read from its memory."""
    started: list[EnvironReader] = []

    def start(reader: EnvironReader) -> None:
        started.append(reader)

    monkeypatch.setattr(EnvironReader, "start", start)
    found = partial(watch.DaemonWatch, find_daemons=lambda: daemons)
    monkeypatch.setattr(watch, "DaemonWatch", found)
    with (
        Store(tmp_path / "state") as store,
        ScriptedSource() as source,
        open_ingest(
            source,
            store,
            Stats(),
            ContainerService(),
            Watchdog(None, lambda: None, lambda _: None),
            options=IngestOptions(want_panics=False),
            on_event=lambda: None,
        ),
    ):
        assert len(started) == len(daemons)
