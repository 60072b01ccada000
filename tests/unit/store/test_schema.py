"""The file of an older version is brought up to date, that of a newer one left alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.store import Store, StoreError
from otel_oom.store.codec import encode
from otel_oom.store.connection import prepare
from tests.testlib.samples.events import EXIT, KILL, SNAPSHOT, sample_kill

FAR = 1 << 62

VERSION_1 = """
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    boot_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    tgid INTEGER,
    started_ns INTEGER,
    boottime_ns INTEGER NOT NULL,
    stored_unix_ns INTEGER NOT NULL,
    event TEXT NOT NULL,
    witness TEXT NOT NULL,
    exit TEXT,
    reaper TEXT NOT NULL DEFAULT '[]',
    log_queued INTEGER NOT NULL DEFAULT 0,
    span_queued INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX journal_open ON journal (id) WHERE NOT (log_queued AND span_queued);
CREATE UNIQUE INDEX journal_victim ON journal (boot_id, tgid, started_ns);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL,
    signal TEXT NOT NULL,
    payload BLOB NOT NULL,
    queued_unix_ns INTEGER NOT NULL,
    UNIQUE (uid, signal)
);
CREATE INDEX outbox_signal ON outbox (signal, id);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL,
    signal TEXT NOT NULL,
    payload BLOB NOT NULL,
    reason TEXT NOT NULL,
    refused_unix_ns INTEGER NOT NULL
);
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""
"""As the first agents made it."""


def version_1(folder: Path) -> None:
    """A file of version 1 in ``folder``: a kill that owes its span, and a message of each kind."""
    with closing(sqlite3.connect(folder / "otel-oom.db")) as database, database:
        database.executescript(VERSION_1)
        database.execute(
            "INSERT INTO journal (uid, boot_id, kind, tgid, started_ns, boottime_ns,"
            " stored_unix_ns, event, witness, exit, log_queued)"
            " VALUES (?, ?, 'kill', ?, ?, ?, 5, ?, ?, ?, 1)",
            (
                KILL.uid,
                KILL.boot_id,
                KILL.victim.tgid,
                KILL.victim.start_boottime_ns,
                KILL.boottime_ns,
                encode(KILL),
                encode(SNAPSHOT),
                encode(EXIT),
            ),
        )
        database.execute("INSERT INTO outbox VALUES (1, ?, 'logs', x'01', 6)", (KILL.uid,))
        database.execute("INSERT INTO dead_letters VALUES (1, 'u', 'logs', x'02', 'no', 7)")


def tables(folder: Path) -> list[tuple[str, ...]]:
    """The layout of the file in ``folder``, but for how its text is laid out."""
    with closing(sqlite3.connect(folder / "otel-oom.db")) as database:
        return [
            (kind, name, " ".join(sql.split()).replace(" ,", ",").replace(" )", ")"))
            for kind, name, sql in database.execute(
                "SELECT type, name, sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name"
            )
        ]


def test_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    """What the first agents left on disk is all there, and is delivered."""
    version_1(tmp_path)
    with Store(tmp_path) as store:
        (row,) = store.open_kills(10, KILL.boot_id, 0)
        assert (row.event, row.witness, row.exit, row.stored_unix_ns) == (KILL, SNAPSHOT, EXIT, 5)
        assert row.log_queued
        assert [m.payload for m in store.waiting("logs", 10, 1000)] == [b"\x01"]
        assert store.counts() == {"journal": 1, "outbox": 1, "dead_letters": 1}
        assert not store.record(KILL, SNAPSHOT)
        assert store.record(sample_kill(1), SNAPSHOT)


def test_an_old_file_becomes_what_a_new_one_is(tmp_path: Path) -> None:
    """The tables of both are the same."""
    (tmp_path / "old").mkdir(mode=0o700)
    version_1(tmp_path / "old")
    for folder in (tmp_path / "old", tmp_path / "new"):
        with Store(folder):
            pass
    assert tables(tmp_path / "old") == tables(tmp_path / "new")


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    """It is one transaction: an old file that can't be changed stays as it was."""
    version_1(tmp_path)
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        # In the way of a table that the new version makes.
        database.execute("CREATE VIEW counters AS SELECT 1")
    before = tables(tmp_path)
    with pytest.raises(StoreError, match="counters"), Store(tmp_path):
        pass
    assert tables(tmp_path) == before
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    """The store of a later version is left as it is, with a clear error."""
    with Store(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="99"), Store(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (99,)


def test_a_sqlite_without_the_operators_is_refused() -> None:
    """What the store needs of SQLite (3.38) is asked for before anything is written."""

    def deny(action: int, _first: str | None, function: str | None, *_: object) -> int:
        lacks = action == sqlite3.SQLITE_FUNCTION and function == "->>"
        return sqlite3.SQLITE_DENY if lacks else sqlite3.SQLITE_OK

    with closing(sqlite3.connect(":memory:")) as database:
        database.set_authorizer(deny)
        with pytest.raises(StoreError, match=sqlite3.sqlite_version):
            prepare(database, check=False)
        assert database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
