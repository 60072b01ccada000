"""A rehearsal of storing a kill: as the real one, and without a trace."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from otel_oom.agent.settling import rehearse_kill
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store, event_log
from otel_oom.store.recovery.disk_space import DiskReserve
from otel_oom.store.recovery.errors import NoSpaceError
from tests.testlib.samples.events import KILL


def test_a_rehearsed_kill_is_inserted_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserted = []
    insert = event_log.insert

    def count_insert(db: sqlite3.Connection, *event: object) -> bool:
        inserted.append(event)
        return insert(db, *event)  # type: ignore[arg-type]

    monkeypatch.setattr(event_log, "insert", count_insert)
    with Store(tmp_path / "state") as store:
        assert rehearse_kill(store)
        assert len(inserted) == 1
        assert store.stats.row_counts()["events"] == 0
        assert store.insert(KILL, Snapshot(process_found=False))
        assert store.stats.row_counts()["events"] == 1


def test_a_rehearsal_in_a_full_store_drops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def require_event_space(*_: object) -> None:
        raise NoSpaceError

    with Store(tmp_path) as store:
        store.insert(KILL, Snapshot(process_found=False))
        with monkeypatch.context() as full:
            full.setattr(DiskReserve, "require_event_space", require_event_space)
            rehearse_kill(store)
        assert store.stats.row_counts()["events"] == 1
