"""A damaged, deleted or partly undecodable database loses nothing else."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.linux import clock
from otel_oom.store import OutboxEntry, Rejection, Store
from otel_oom.store.counters import NO_BOOT
from otel_oom.store.recovery import salvage
from tests.testlib.samples.events import EXIT, KILL, REAPER_STEPS, SNAPSHOT, sample_kill

BOOT = KILL.boot_id
NEVER = 0
FAR = 1 << 62
PAGE = 4096
NAME = "otel-oom.db"


def pending_uids(store: Store) -> set[str]:
    """Return the uids of the pending events."""
    return {row.event.uid for row in store.pending_events(10_000, BOOT, FAR)}


def uids(*numbers: int) -> set[str]:
    return {sample_kill(number).uid for number in numbers}


def overwrite(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def root_page(path: Path, name: str) -> int:
    """Return the number of the first page of a table or an index."""
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        return int(database.execute(query, (name,)).fetchone()[0])


def leaf_pages(path: Path, name: str) -> list[int]:
    """Return the numbers of the pages with a table's rows, in the order of the rows."""
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
        return [number for (number,) in database.execute(query, (name,))]


@pytest.fixture
def db_file(tmp_path: Path) -> Path:
    """A closed database with a hundred kills; two of them have messages."""
    with Store(tmp_path) as store:
        for number in range(100):
            store.insert(sample_kill(number), SNAPSHOT)
        for number in (0, 1):
            store.enqueue([OutboxEntry(number + 1, sample_kill(number).uid, b"log", b"span")])
        store.reject(store.next_batch("logs", 1, 1000), Rejection("http://host", "no"))
    return tmp_path / NAME


def no_header(path: Path) -> None:
    overwrite(path, 0, b"no database")


def no_schema(path: Path) -> None:
    """Overwrite the page with the tables' names, behind a valid header."""
    overwrite(path, 100, os.urandom(PAGE - 100))


def truncated(path: Path) -> None:
    os.truncate(path, 3 * PAGE)


@pytest.mark.parametrize("damage", [no_header, no_schema, truncated])
def test_a_corrupt_database_is_quarantined(
    db_file: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(db_file)
    before = db_file.read_bytes()
    with Store(db_file.parent) as store:
        assert store.insert(sample_kill(1000), SNAPSHOT)
        pending_uids(store)
        (quarantined,) = store.quarantined_databases()
    path = db_file.parent / quarantined.name
    assert path.read_bytes()[: 3 * PAGE] == before[: 3 * PAGE]
    assert abs(quarantined.quarantined_unix_ns - time.time_ns()) < 60 * 10**9
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sum(quarantined.name in message for message in caplog.messages) == 2
    with Store(db_file.parent) as store:
        assert uids(1000) <= pending_uids(store)
        assert len(store.quarantined_databases()) == 1


def test_readable_rows_are_salvaged(db_file: Path) -> None:
    pages = leaf_pages(db_file, "events")
    overwrite(db_file, (pages[len(pages) // 2] - 1) * PAGE, b"\x55" * PAGE)
    with Store(db_file.parent) as store:
        left = pending_uids(store)
        assert 90 <= len(left) < 100
        assert uids(2, 99) <= left
        assert [m.payload for m in store.next_batch("traces", 10, 1000)] == [b"span"] * 2
        assert store.stats.row_counts()["dead_letters"] == 1
        assert store.counters(BOOT) == {"captured.kill": 100}
        assert store.counters(NO_BOOT) == {"rejected.logs": 1}
        (quarantined,) = store.quarantined_databases()
        assert "malformed" in quarantined.reason


def test_recovery_from_damage_while_running(db_file: Path) -> None:
    page = root_page(db_file, "outbox")
    with Store(db_file.parent) as store:
        overwrite(db_file, (page - 1) * PAGE, b"\x55" * PAGE)
        store.enqueue([OutboxEntry(3, sample_kill(2).uid, b"new", None)])
        assert [m.payload for m in store.next_batch("logs", 10, 1000)] == [b"new"]
        assert len(store.quarantined_databases()) == 1
        assert store.insert(sample_kill(1000), SNAPSHOT)
        assert uids(0, 1, 3, 99, 1000) <= pending_uids(store)


def test_lost_messages_are_encoded_again(db_file: Path) -> None:
    page = root_page(db_file, "outbox")
    overwrite(db_file, (page - 1) * PAGE, b"\x55" * PAGE)
    with Store(db_file.parent) as store:
        store.next_batch("logs", 1, 1)
        rows = {row.event.uid: row for row in store.pending_events(1000, BOOT, FAR)}
        assert rows.keys() == uids(*range(100))
        # Its log was rejected, and is a dead letter.
        assert rows[sample_kill(0).uid].log_queued
        assert not rows[sample_kill(0).uid].span_queued
        assert not rows[sample_kill(1).uid].log_queued


def test_an_interrupted_salvage_continues_at_the_next_start(db_file: Path) -> None:
    db_file.rename(db_file.with_name("otel-oom-20260101T000000Z.db"))
    with Store(db_file.parent) as store:
        assert len(pending_uids(store)) == 98
        assert [listed.name for listed in store.quarantined_databases()] == [
            "otel-oom-20260101T000000Z.db"
        ]


def test_the_log_is_quarantined_with_its_database(tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    with Store(tmp_path / "state") as store:
        store.insert(KILL, SNAPSHOT)
    with Store(tmp_path / "state") as store:
        # Of the file's first page the log has no copy now.
        store.set_counters(BOOT, {"noted": 1})
        shutil.copytree(store.path, crashed)
    no_header(crashed / NAME)
    with Store(crashed) as store:
        (quarantined,) = store.quarantined_databases()
        assert store.insert(sample_kill(1), SNAPSHOT)
    overwrite(crashed / quarantined.name, 0, b"SQLite format 3\0")
    with closing(sqlite3.connect(crashed / quarantined.name)) as repaired:
        query = "SELECT value FROM counters WHERE name = 'noted'"
        assert repaired.execute(query).fetchall() == [(1,)]


def test_quarantine_renames_all_files_of_a_database(tmp_path: Path) -> None:
    for _ in range(2):
        for tail in ("", "-wal", "-shm"):
            (tmp_path / f"{NAME}{tail}").write_text(tail, encoding="ascii")
        moved = salvage.quarantine(tmp_path / NAME)
        for tail in ("", "-wal", "-shm"):
            assert (tmp_path / f"{moved.name}{tail}").read_text(encoding="ascii") == tail
            assert not (tmp_path / f"{NAME}{tail}").exists()
    assert len(list(tmp_path.iterdir())) == 6


def test_a_quarantined_file_is_salvaged_once(db_file: Path) -> None:
    for id_, left in (10, 97), (11, 0):
        with closing(sqlite3.connect(db_file)) as database, database:
            damage = "UPDATE events SET event = 'no JSON', log_queued = 0 WHERE id = ?"
            database.execute(damage, (id_,))
        with Store(db_file.parent) as store:
            assert len(pending_uids(store)) == left
            for row in store.pending_events(1000, BOOT, FAR):
                store.enqueue([OutboxEntry(row.id, row.event.uid, b"log", b"span")])
            for signal in ("logs", "traces"):
                store.ack(store.next_batch(signal, 1000, 10**6))
            assert store.stats.row_counts()["outbox"] == 0
    with Store(db_file.parent) as store:
        assert len(store.quarantined_databases()) == 2


@pytest.mark.parametrize("which", ["folder", NAME, f"{NAME}-wal", "renamed"])
def test_a_deleted_database_is_rewritten(tmp_path: Path, which: str) -> None:
    state = tmp_path / "state"
    with Store(state) as store:
        store.insert(sample_kill(0), SNAPSHOT)
        if which == "folder":
            shutil.rmtree(state)
        elif which == "renamed":
            state.rename(tmp_path / "elsewhere")
        else:
            (state / which).unlink()
        assert store.insert(sample_kill(1), SNAPSHOT)
        store.insert(sample_kill(2), SNAPSHOT)
    with Store(state) as store:
        assert pending_uids(store) == uids(0, 1, 2)


@pytest.mark.parametrize(
    "change",
    [
        "event = 'no JSON'",
        "event = CAST(x'ff80' AS TEXT)",
        "event = json_remove(event, '$.victim')",
        "event = '[]'",
        "snapshot = '7'",
        "reaper_steps = '[7]'",
        "exit = '{}'",
        "kind = 'of a later version'",
        "stored_unix_ns = 'then'",
    ],
)
def test_an_undecodable_row_is_quarantined(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Store(tmp_path) as store:
        for number in range(3):
            store.insert(sample_kill(number), SNAPSHOT)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            before = database.execute("SELECT * FROM events WHERE id = 2").fetchall()
            database.execute(f"UPDATE events SET {change}, crc32 = NULL WHERE id = 2")  # noqa: S608  of the list above
        for _ in range(3):
            assert [row.id for row in store.pending_events(1, BOOT, NEVER)] == [1]
            assert [row.id for row in store.pending_events(10, BOOT, NEVER)] == [1, 3]
        assert store.oldest_pending_boottime_ns(BOOT) == KILL.boottime_ns
        assert {kill.boottime_ns for kill in store.tally.stored_kills(BOOT, 10)} > {
            KILL.boottime_ns
        }
        assert sum("quarantined" in message for message in caplog.messages) == 1
        assert store.counters(NO_BOOT) == {"undecodable": 1}
        assert store.stats.row_counts()["events"] == 3
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            names = [column[1] for column in database.execute("PRAGMA table_info(events)")]
            values = dict(zip(names, before[0], strict=True))
            values = {k: v for k, v in values.items() if not k.startswith("undecodable_")}
            restored = ", ".join(f"{name} = ?" for name in values)
            database.execute(f"UPDATE events SET {restored} WHERE id = 2", [*values.values()])  # noqa: S608  its own columns
    with Store(tmp_path) as store:
        assert len(store.pending_events(10, BOOT, NEVER)) == 2
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute("UPDATE events SET undecodable_version = 'another' WHERE id = 2")
    with Store(tmp_path) as store:
        assert len(store.pending_events(10, BOOT, NEVER)) == 3


@pytest.mark.parametrize("begin", [None, 40])
def test_a_row_with_a_wrong_checksum_is_a_gap_in_the_tally(
    tmp_path: Path, begin: int | None
) -> None:
    boot = clock.boot_id()
    kills = [sample_kill(number, boot_id=boot) for number in range(3)]
    with Store(tmp_path) as store:
        for each in kills:
            store.insert(each, SNAPSHOT)
        if begin is not None:
            store.tally.update(boot, double_counted=0, log_sequence=begin, log_starts=True)
        store.tally.update(boot, double_counted=0, log_sequence=100)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute("UPDATE events SET event = replace(event, '4711', '4715') WHERE id=2")
        assert pending_uids(store) == {kills[0].uid, kills[2].uid}
        assert (store.tally.read(boot).recorded, store.tally.read(boot).log_sequence) == (
            2,
            begin or -1,
        )
        (quarantined,) = store.quarantined_databases()
        assert "wrong checksum of event row 2" in quarantined.reason
        assert store.insert(kills[1], SNAPSHOT)
        assert store.tally.read(boot).recorded == 3


@pytest.mark.parametrize(
    "change",
    [
        "boot_id = 'c' || boot_id",
        "kind = 'panic'",
        "tgid = tgid + 4",
        "start_boottime_ns = start_boottime_ns - 4",
        "boottime_ns = boottime_ns + 4096",
        "log_queued = 1, span_queued = 1",
    ],
)
def test_a_kill_with_a_changed_row_can_be_inserted_again(tmp_path: Path, change: str) -> None:
    boot = clock.boot_id()
    kills = [sample_kill(number, boot_id=boot) for number in range(3)]
    with Store(tmp_path) as store:
        for each in kills:
            store.insert(each, SNAPSHOT)
        store.tally.update(boot, double_counted=0, log_sequence=100)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute(f"UPDATE events SET {change} WHERE id = 2")  # noqa: S608  of the list above
        assert store.insert(kills[1], SNAPSHOT)
        assert pending_uids(store) == {each.uid for each in kills}
        assert store.tally.read(boot).recorded == 3
        assert len(store.quarantined_databases()) == 1
        assert not store.insert(kills[1], SNAPSHOT)


def test_checksums_are_updated_when_an_event_is_queued(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.insert(KILL, SNAPSHOT)
        (row,) = store.pending_events(10, BOOT, FAR)
        store.enqueue([OutboxEntry(row.id, row.event.uid, b"log", b"span")])
        assert not store.insert(KILL, SNAPSHOT)
        assert store.quarantined_databases() == []


def test_a_message_with_a_wrong_checksum_is_encoded_again(db_file: Path) -> None:
    with closing(sqlite3.connect(db_file)) as database, database:
        database.execute("UPDATE outbox SET payload = x'6c6f66' WHERE signal = 'logs'")
    with Store(db_file.parent) as store:
        assert store.next_batch("logs", 10, 1000) == []
        assert uids(1) <= pending_uids(store)
        assert [m.payload for m in store.next_batch("traces", 10, 1000)] == [b"span"] * 2


def test_many_undecodable_rows_hide_no_other(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for number in range(10):
            store.insert(sample_kill(number), SNAPSHOT)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute("UPDATE events SET event = '?', crc32 = NULL WHERE id < 10")
        assert [row.id for row in store.pending_events(2, BOOT, NEVER)] == [10]


def test_a_reaper_step_of_a_damaged_row_is_ignored(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.insert(KILL, SNAPSHOT)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute("UPDATE events SET reaper_steps = 'no JSON'")
        assert not store.add_reaper_step(BOOT, REAPER_STEPS[0])
        assert store.add_exit(BOOT, EXIT)


def test_a_lost_end_is_encoded_again(tmp_path: Path) -> None:
    """The span and the log of the kill, which are intact, stay as they are."""
    with Store(tmp_path) as store:
        store.insert(KILL, SNAPSHOT)
        store.enqueue([OutboxEntry(1, KILL.uid, b"log", b"span", end_log=b"end")])
    with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
        database.execute("UPDATE outbox SET payload = x'6c6f66' WHERE uid LIKE '%/end'")
    with Store(tmp_path) as store:
        assert [m.payload for m in store.next_batch("logs", 10, 1000)] == [b"log"]
        (row,) = store.pending_events(10, BOOT, FAR)
        assert (row.log_queued, row.span_queued) == (True, False)
        store.enqueue([OutboxEntry(row.id, KILL.uid, None, b"span again", end_log=b"end")])
        assert [m.payload for m in store.next_batch("logs", 10, 1000)] == [b"log", b"end"]
        assert [m.payload for m in store.next_batch("traces", 10, 1000)] == [b"span"]
