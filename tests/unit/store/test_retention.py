"""Size and age limits: what is deleted, in which order, and that it is counted."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.linux import clock
from otel_oom.model.events import OomKill
from otel_oom.store import OutboxEntry, Rejection, Store, StoreLimits
from otel_oom.store.counters import NO_BOOT
from tests.testlib.samples.events import KILL, PANIC, SNAPSHOT, sample_kill

BOOT = KILL.boot_id
FAR = 1 << 62
ALL = 1 << 40
BOUND = 16 << 20
DAY_NS = 86_400 * 10**9


def large_kill(number: int, boot_id: str = BOOT) -> OomKill:
    """Return a sample kill of some 60 KiB, of which not many fill a store."""
    return sample_kill(number, boot_id=boot_id, stack=("x" * 60_000,))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of at most 16 MiB, with a day of history."""
    with Store(tmp_path / "state", StoreLimits(BOUND, 86_400)) as opened:
        yield opened


def disk_usage(store: Store) -> int:
    return sum(path.stat().st_blocks * 512 for path in store.path.iterdir())


def enqueue_all(store: Store, payload: bytes = b"m") -> None:
    """Move all events to the outbox."""
    while rows := store.pending_events(16, BOOT, FAR):
        store.enqueue([OutboxEntry(row.id, row.event.uid, payload, payload) for row in rows])


def deliver(store: Store, excluded_uid: str = "") -> list[str]:
    """Acknowledge all messages but those of one uid, and return the uids of the logs."""
    sent = []
    for signal in ("logs", "traces"):
        while messages := [
            m for m in store.next_batch(signal, 512, 1 << 21) if m.uid != excluded_uid
        ]:
            sent += [message.uid for message in messages if signal == "logs"]
            store.ack(messages)
    return sent


def unpruned_uids(store: Store) -> list[str]:
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database:
        query = "SELECT uid FROM events WHERE NOT pruned ORDER BY id"
        return [uid for (uid,) in database.execute(query)]


@pytest.mark.slow
def test_only_history_is_deleted_while_there_is_some(store: Store) -> None:
    # Smaller ones: more than go at a time.
    kills = [sample_kill(number, stack=("x" * 12_000,)) for number in range(900)]
    stuck = kills[10].uid
    for event in kills:
        assert store.insert(event, SNAPSHOT)
        enqueue_all(store)
        deliver(store, excluded_uid=stuck)
        assert disk_usage(store) <= BOUND
    left = unpruned_uids(store)
    assert left == [stuck, *(event.uid for event in kills[901 - len(left) :])]
    assert len(left) > 100
    assert [message.uid for message in store.next_batch("logs", 10, ALL)] == [stuck]
    assert not any(name.startswith("dropped") for name in store.counters(NO_BOOT))


def test_oldest_undelivered_events_are_dropped_and_counted(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(200):
        assert store.insert(large_kill(number), SNAPSHOT)
        enqueue_all(store)
        assert disk_usage(store) <= BOUND
    counts = store.counters(NO_BOOT)
    sent = deliver(store)
    assert sent == [large_kill(number).uid for number in range(200 - len(sent), 200)]
    assert len(sent) > 50
    assert counts == {"dropped.logs": 200 - len(sent), "dropped.traces": 200 - len(sent)}
    assert any("is at its size limit" in message for message in caplog.messages)


def test_space_is_reserved_for_the_outbox(store: Store) -> None:
    for number in range(200):
        store.insert(large_kill(number), SNAPSHOT)
    assert store.counters(NO_BOOT)["dropped.logs"] > 0
    enqueue_all(store, b"m" * 5000)
    assert len(deliver(store)) > 50


def test_dead_letters_are_dropped_before_messages(store: Store) -> None:
    for number in range(20):
        store.insert(sample_kill(number), SNAPSHOT)
    enqueue_all(store, b"m" * 100_000)
    store.reject(store.next_batch("logs", 10, ALL), Rejection("http://host", "no"))
    for number in range(100, 200):
        store.insert(large_kill(number), SNAPSHOT)
    counts = store.counters(NO_BOOT)
    assert counts["rejected.logs"] == counts["dropped.dead_letters"] == 10
    assert store.stats.row_counts()["dead_letters"] == 0


def test_history_is_pruned_by_age(store: Store) -> None:
    for number in range(4):
        store.insert(sample_kill(number), SNAPSHOT)
    enqueue_all(store)
    store.ack(store.next_batch("logs", 3, ALL))
    store.ack(store.next_batch("traces", 3, ALL))
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database, database:
        for id_, age_ns in ((1, DAY_NS + 10**9), (2, DAY_NS - 60 * 10**9), (4, 9 * DAY_NS)):
            database.execute(
                "UPDATE events SET stored_unix_ns = ? WHERE id = ?", (time.time_ns() - age_ns, id_)
            )
    assert store.maintain() > 0
    assert unpruned_uids(store) == [sample_kill(number).uid for number in (1, 2, 3)]


def test_a_pruned_kill_of_this_boot_is_still_known(tmp_path: Path) -> None:
    now = clock.boot_id()
    events_ = [large_kill(0, now), large_kill(1), sample_kill(2, boot_id=now)]
    with Store(tmp_path, StoreLimits(BOUND, 0)) as store:
        for event in events_:
            store.insert(event, SNAPSHOT)
        known = store.tally.stored_kills(now, 10)
        enqueue_all(store)
        deliver(store)
        store.maintain()
        assert unpruned_uids(store) == []
        assert store.tally.stored_kills(now, 10) == known
        assert len(known) == 2
        assert not store.insert(events_[0], SNAPSHOT)
        assert not store.insert(events_[2], SNAPSHOT)
        assert store.stats.row_counts()["events"] == 2
        assert store.insert(events_[1], SNAPSHOT)


def test_a_pruned_panic_is_still_known(tmp_path: Path) -> None:
    with Store(tmp_path, StoreLimits(BOUND, 0)) as store:
        assert store.insert(PANIC, SNAPSHOT)
        enqueue_all(store)
        deliver(store)
        store.maintain()
        assert unpruned_uids(store) == []
    with Store(tmp_path, StoreLimits(BOUND, 0)) as store:
        store.maintain()
        assert not store.insert(PANIC, SNAPSHOT)
        assert store.pending_events(1, BOOT, FAR) == []


def test_free_pages_are_released_to_the_disk(store: Store) -> None:
    path = store.path / "otel-oom.db"
    for number in range(100):
        store.insert(large_kill(number), SNAPSHOT)
    enqueue_all(store)
    deliver(store)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE events SET stored_unix_ns = 0")
        grown = database.execute("PRAGMA page_count").fetchone()[0]
    store.maintain()
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute("PRAGMA page_count").fetchone()[0] < grown - 256
    assert store.insert(large_kill(1000), SNAPSHOT)


def test_a_lowered_size_limit_holds(tmp_path: Path) -> None:
    with Store(tmp_path, StoreLimits(64 << 20)) as store:
        for number in range(300):
            store.insert(large_kill(number), SNAPSHOT)
    with Store(tmp_path, StoreLimits(BOUND)) as store:
        for number in range(300, 330):
            assert store.insert(large_kill(number), SNAPSHOT)
        store.maintain()
        dropped = store.counters(NO_BOOT)["dropped.logs"]
        # One event reports the drops.
        assert store.stats.row_counts()["events"] == 330 - dropped + 1
        assert store.pending_events(1, BOOT, FAR)[0].event == large_kill(dropped)


def test_encoded_copies_are_deleted_before_undelivered_events(store: Store) -> None:
    for number in range(30):
        store.insert(large_kill(number), SNAPSHOT)
    kills = [sample_kill(number) for number in range(30, 40)]
    for event in kills:
        store.insert(event, SNAPSHOT)
    payload = os.urandom(40_000)
    # Behind older ones that are still pending.
    for row in store.pending_events(ALL, BOOT, FAR)[30:]:
        store.enqueue([OutboxEntry(row.id, row.event.uid, payload, payload)])
    assert sum(row.log is not None for row in store.history.page_before(None)) == len(kills)
    for number in range(100, 300):
        store.insert(large_kill(number), SNAPSHOT)
        if any(name.startswith("dropped") for name in store.counters(NO_BOOT)):
            break
    assert store.counters(NO_BOOT)["dropped.logs"] > 0
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database:
        assert database.execute("SELECT count(*) FROM encoded_events").fetchone() == (0,)


def test_no_encoded_copies_at_the_size_limit(store: Store) -> None:
    for number in range(200):
        store.insert(large_kill(number), SNAPSHOT)
    enqueue_all(store, os.urandom(5_000))
    newest = store.history.page_before(None)[0]
    assert (newest.log, newest.log_status) == (None, "queued")
