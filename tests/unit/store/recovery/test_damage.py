"""A database that is damaged, taken away, or holds what can't be read: nothing else is lost."""

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


def events(store: Store) -> set[str]:
    """The uids of all that owes something."""
    return {row.event.uid for row in store.pending_events(10_000, BOOT, FAR)}


def uids(*numbers: int) -> set[str]:
    """The uids of sample kills."""
    return {sample_kill(number).uid for number in numbers}


def overwrite(path: Path, place: int, data: bytes) -> None:
    """Change bytes of a file, and nothing else."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def root_page(path: Path, name: str) -> int:
    """The number of the first page of a table or an index."""
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        return int(database.execute(query, (name,)).fetchone()[0])


def leaf_pages(path: Path, name: str) -> list[int]:
    """The numbers of the pages with a table's rows, in the order of the rows."""
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
        return [number for (number,) in database.execute(query, (name,))]


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """The file of a store, closed, with a hundred kills; two of them have messages."""
    with Store(tmp_path) as store:
        for number in range(100):
            store.insert(sample_kill(number), SNAPSHOT)
        for number in (0, 1):
            store.enqueue([OutboxEntry(number + 1, sample_kill(number).uid, b"log", b"span")])
        store.reject(store.next_batch("logs", 1, 1000), Rejection("http://host", "no"))
    return tmp_path / NAME


def no_header(path: Path) -> None:
    """What every database begins with is gone."""
    overwrite(path, 0, b"no database")


def no_schema(path: Path) -> None:
    """The page with the tables' names is rubbish, behind a good header."""
    overwrite(path, 100, os.urandom(PAGE - 100))


def cut(path: Path) -> None:
    """The end of the file is missing."""
    os.truncate(path, 3 * PAGE)


@pytest.mark.parametrize("damage", [no_header, no_schema, cut])
def test_an_unreadable_database_is_moved_aside(
    full: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept as it was under another name, that is told, and a new one takes its place."""
    damage(full)
    before = full.read_bytes()
    with Store(full.parent) as store:
        assert store.insert(sample_kill(1000), SNAPSHOT)
        events(store)
        (found,) = store.quarantined_databases()
    moved = full.parent / found.name
    assert moved.read_bytes()[: 3 * PAGE] == before[: 3 * PAGE]
    assert abs(found.quarantined_unix_ns - time.time_ns()) < 60 * 10**9
    assert stat.S_IMODE(moved.stat().st_mode) == 0o600
    assert sum(found.name in message for message in caplog.messages) == 2
    with Store(full.parent) as store:
        assert uids(1000) <= events(store)
        assert len(store.quarantined_databases()) == 1


def test_what_can_still_be_read_is_taken_over(full: Path) -> None:
    """One page that is damaged takes its own rows with it and no other's."""
    pages = leaf_pages(full, "events")
    overwrite(full, (pages[len(pages) // 2] - 1) * PAGE, b"\x55" * PAGE)
    with Store(full.parent) as store:
        left = events(store)
        assert 90 <= len(left) < 100
        assert uids(2, 99) <= left
        assert [m.payload for m in store.next_batch("traces", 10, 1000)] == [b"span"] * 2
        assert store.stats.row_counts()["dead_letters"] == 1
        assert store.counters(BOOT) == {"captured.kill": 100}
        assert store.counters(NO_BOOT) == {"rejected.logs": 1}
        (found,) = store.quarantined_databases()
        assert "malformed" in found.reason


def test_damage_that_shows_while_running_is_mended(full: Path) -> None:
    """A store that works comes upon a damaged page: what was asked for is done nevertheless."""
    page = root_page(full, "outbox")
    with Store(full.parent) as store:
        overwrite(full, (page - 1) * PAGE, b"\x55" * PAGE)
        store.enqueue([OutboxEntry(3, sample_kill(2).uid, b"new", None)])
        assert [m.payload for m in store.next_batch("logs", 10, 1000)] == [b"new"]
        assert len(store.quarantined_databases()) == 1
        assert store.insert(sample_kill(1000), SNAPSHOT)
        assert uids(0, 1, 3, 99, 1000) <= events(store)


def test_messages_that_are_lost_are_made_again(full: Path) -> None:
    """With a page of the outbox go messages, not kills: the journal still has those."""
    page = root_page(full, "outbox")
    overwrite(full, (page - 1) * PAGE, b"\x55" * PAGE)
    with Store(full.parent) as store:
        store.next_batch("logs", 1, 1)
        rows = {row.event.uid: row for row in store.pending_events(1000, BOOT, FAR)}
        assert rows.keys() == uids(*range(100))
        # Its log was refused, and is a dead letter.
        assert rows[sample_kill(0).uid].log_queued
        assert not rows[sample_kill(0).uid].span_queued
        assert not rows[sample_kill(1).uid].log_queued


def test_a_move_that_was_cut_short_is_ended_by_the_next_start(full: Path) -> None:
    """A file that was moved, and whose rows were not yet taken over, is not forgotten."""
    full.rename(full.with_name("otel-oom-20260101T000000Z.db"))
    with Store(full.parent) as store:
        assert len(events(store)) == 98
        assert [found.name for found in store.quarantined_databases()] == [
            "otel-oom-20260101T000000Z.db"
        ]


def test_the_log_of_a_damaged_database_goes_with_it(tmp_path: Path) -> None:
    """What a crash has left in the log is kept with the file that it belongs to."""
    crashed = tmp_path / "crashed"
    with Store(tmp_path / "state") as store:
        store.insert(KILL, SNAPSHOT)
    with Store(tmp_path / "state") as store:
        # Of the file's first page the log has no copy now.
        store.set_counters(BOOT, {"seen": 1})
        shutil.copytree(store.folder, crashed)
    no_header(crashed / NAME)
    with Store(crashed) as store:
        (found,) = store.quarantined_databases()
        assert store.insert(sample_kill(1), SNAPSHOT)
    overwrite(crashed / found.name, 0, b"SQLite format 3\0")
    with closing(sqlite3.connect(crashed / found.name)) as mended:
        query = "SELECT value FROM counters WHERE name = 'seen'"
        assert mended.execute(query).fetchall() == [(1,)]


def test_what_is_moved_stays_one_database(tmp_path: Path) -> None:
    """A log that could not be brought into its file is still SQLite's to find, each time anew."""
    for _ in range(2):
        for tail in ("", "-wal", "-shm"):
            (tmp_path / f"{NAME}{tail}").write_text(tail, encoding="ascii")
        moved = salvage.quarantine(tmp_path / NAME)
        for tail in ("", "-wal", "-shm"):
            assert (tmp_path / f"{moved.name}{tail}").read_text(encoding="ascii") == tail
            assert not (tmp_path / f"{NAME}{tail}").exists()
    assert len(list(tmp_path.iterdir())) == 6


def test_what_was_taken_over_once_is_not_again(full: Path) -> None:
    """After a second damage only the second file is: what the first had was told since."""
    for id_, left in (10, 97), (11, 0):
        with closing(sqlite3.connect(full)) as database, database:
            damage = "UPDATE events SET event = 'no JSON', log_queued = 0 WHERE id = ?"
            database.execute(damage, (id_,))
        with Store(full.parent) as store:
            assert len(events(store)) == left
            for row in store.pending_events(1000, BOOT, FAR):
                store.enqueue([OutboxEntry(row.id, row.event.uid, b"log", b"span")])
            for signal in ("logs", "traces"):
                store.ack(store.next_batch(signal, 1000, 10**6))
            assert store.stats.row_counts()["outbox"] == 0
    with Store(full.parent) as store:
        assert len(store.quarantined_databases()) == 2


@pytest.mark.parametrize("which", ["folder", NAME, f"{NAME}-wal", "moved"])
def test_a_database_that_is_taken_away_is_written_anew(tmp_path: Path, which: str) -> None:
    """Names can be deleted under a running agent: what they led to is brought back."""
    state = tmp_path / "state"
    with Store(state) as store:
        store.insert(sample_kill(0), SNAPSHOT)
        if which == "folder":
            shutil.rmtree(state)
        elif which == "moved":
            state.rename(tmp_path / "elsewhere")
        else:
            (state / which).unlink()
        assert store.insert(sample_kill(1), SNAPSHOT)
        store.insert(sample_kill(2), SNAPSHOT)
    with Store(state) as store:
        assert events(store) == uids(0, 1, 2)


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
def test_a_row_that_cant_be_read_holds_up_no_other(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside with the reason, told once, and kept; an agent of another version retries."""
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
        assert {kill.boottime_ns for kill in store.stored_kills(BOOT, 10)} > {KILL.boottime_ns}
        assert sum("quarantined" in message for message in caplog.messages) == 1
        assert store.counters(NO_BOOT) == {"undecodable": 1}
        assert store.stats.row_counts()["events"] == 3
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            names = [column[1] for column in database.execute("PRAGMA table_info(events)")]
            mended = ", ".join(f"{name} = ?" for name in names[:14])
            database.execute(f"UPDATE events SET {mended} WHERE id = 2", before[0][:14])  # noqa: S608  its own columns
    with Store(tmp_path) as store:
        assert len(store.pending_events(10, BOOT, NEVER)) == 2
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute("UPDATE events SET undecodable_version = 'another' WHERE id = 2")
    with Store(tmp_path) as store:
        assert len(store.pending_events(10, BOOT, NEVER)) == 3


@pytest.mark.parametrize("begin", [None, 40])
def test_a_bit_that_the_disk_has_changed_is_no_other_kill(
    tmp_path: Path, begin: int | None
) -> None:
    """A row that can be read, and is not as it was written, is not told: its kill is a gap.

    To fill it the log is read once more, but for what was never to be told.
    """
    boot = clock.boot_id()
    kills = [sample_kill(number, boot_id=boot) for number in range(3)]
    with Store(tmp_path) as store:
        for each in kills:
            store.insert(each, SNAPSHOT)
        if begin is not None:
            store.update_tally(boot, double_counted=0, log_sequence=begin, log_starts=True)
        store.update_tally(boot, double_counted=0, log_sequence=100)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute("UPDATE events SET event = replace(event, '4711', '4715') WHERE id=2")
        assert events(store) == {kills[0].uid, kills[2].uid}
        assert (store.boot_tally(boot).recorded, store.boot_tally(boot).log_sequence) == (
            2,
            begin or -1,
        )
        (found,) = store.quarantined_databases()
        assert "wrong checksum of event row 2" in found.reason
        assert store.insert(kills[1], SNAPSHOT)
        assert store.boot_tally(boot).recorded == 3


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
def test_a_kill_whose_row_was_changed_can_be_stored_again(tmp_path: Path, change: str) -> None:
    """Found in the kernel's log it has the uid of that row, which is not to stand in its way."""
    boot = clock.boot_id()
    kills = [sample_kill(number, boot_id=boot) for number in range(3)]
    with Store(tmp_path) as store:
        for each in kills:
            store.insert(each, SNAPSHOT)
        store.update_tally(boot, double_counted=0, log_sequence=100)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute(f"UPDATE events SET {change} WHERE id = 2")  # noqa: S608  of the list above
        assert store.insert(kills[1], SNAPSHOT)
        assert events(store) == {each.uid for each in kills}
        assert store.boot_tally(boot).recorded == 3
        assert len(store.quarantined_databases()) == 1
        assert not store.insert(kills[1], SNAPSHOT)


def test_what_was_queued_is_as_it_was_written(tmp_path: Path) -> None:
    """A row that has moved on is sealed anew: told again, it is the same kill."""
    with Store(tmp_path) as store:
        store.insert(KILL, SNAPSHOT)
        (row,) = store.pending_events(10, BOOT, FAR)
        store.enqueue([OutboxEntry(row.id, row.event.uid, b"log", b"span")])
        assert not store.insert(KILL, SNAPSHOT)
        assert store.quarantined_databases() == []


def test_a_bit_that_the_disk_has_changed_is_not_sent(full: Path) -> None:
    """A message that is not as it was written is made again out of the journal."""
    with closing(sqlite3.connect(full)) as database, database:
        database.execute("UPDATE outbox SET payload = x'6c6f66' WHERE signal = 'logs'")
    with Store(full.parent) as store:
        assert store.next_batch("logs", 10, 1000) == []
        assert uids(1) <= events(store)
        assert [m.payload for m in store.next_batch("traces", 10, 1000)] == [b"span"] * 2


def test_many_rows_that_cant_be_read_hide_no_other(tmp_path: Path) -> None:
    """More of them than one look takes do not end it."""
    with Store(tmp_path) as store:
        for number in range(10):
            store.insert(sample_kill(number), SNAPSHOT)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute("UPDATE events SET event = '?', crc32 = NULL WHERE id < 10")
        assert [row.id for row in store.pending_events(2, BOOT, NEVER)] == [10]


def test_what_the_reaper_tells_of_a_damaged_row_is_no_trouble(tmp_path: Path) -> None:
    """Steps that can't be added to a row are left out, and hold up no kill."""
    with Store(tmp_path) as store:
        store.insert(KILL, SNAPSHOT)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute("UPDATE events SET reaper_steps = 'no JSON'")
        assert not store.add_reaper_step(BOOT, REAPER_STEPS[0])
        assert store.add_exit(BOOT, EXIT)
