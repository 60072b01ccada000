"""The store's bounds: what goes, in which order, and that it is counted."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.config.store import MAX_AGE, MAX_BYTES, read_store_limits
from otel_oom.config.variable import ConfigError
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


def large(number: int, boot_id: str = BOOT) -> OomKill:
    """A sample kill of some 60 KiB, so that not many fill a store."""
    return sample_kill(number, boot_id=boot_id, stack=("x" * 60_000,))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that may take 16 MiB, and keep history for a day."""
    with Store(tmp_path / "state", StoreLimits(BOUND, 86_400)) as opened:
        yield opened


def size(store: Store) -> int:
    """What the store takes on the disk, in bytes."""
    return sum(path.stat().st_blocks * 512 for path in store.folder.iterdir())


def queue(store: Store, payload: bytes = b"m") -> None:
    """Move all that is in the journal to the outbox."""
    while rows := store.pending_events(16, BOOT, FAR):
        store.enqueue([OutboxEntry(row.id, row.event.uid, payload, payload) for row in rows])


def deliver(store: Store, but: str = "") -> list[str]:
    """Let a backend take all but what is of the uid ``but``; the uids of the logs."""
    sent = []
    for signal in ("logs", "traces"):
        while messages := [m for m in store.next_batch(signal, 512, 1 << 21) if m.uid != but]:
            sent += [message.uid for message in messages if signal == "logs"]
            store.ack(messages)
    return sent


def events(store: Store) -> list[str]:
    """The uids of the events whose contents are still there, oldest first."""
    with closing(sqlite3.connect(store.folder / "otel-oom.db")) as database:
        query = "SELECT uid FROM events WHERE NOT pruned ORDER BY id"
        return [uid for (uid,) in database.execute(query)]


def test_history_makes_room_and_nothing_else_does(store: Store) -> None:
    """What was delivered goes, oldest first; what was not stays, and nothing is dropped."""
    # Smaller ones: more than go at a time.
    kills = [sample_kill(number, stack=("x" * 12_000,)) for number in range(900)]
    stuck = kills[10].uid
    for event in kills:
        assert store.insert(event, SNAPSHOT)
        queue(store)
        deliver(store, but=stuck)
        assert size(store) <= BOUND
    left = events(store)
    assert left == [stuck, *(event.uid for event in kills[901 - len(left) :])]
    assert len(left) > 100
    assert [message.uid for message in store.next_batch("logs", 10, ALL)] == [stuck]
    assert not any(name.startswith("dropped") for name in store.counters(NO_BOOT))


def test_the_oldest_that_nobody_took_goes_last_and_is_counted(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """With the backend away for long the newest stay, and what went is counted and said."""
    for number in range(200):
        assert store.insert(large(number), SNAPSHOT)
        queue(store)
        assert size(store) <= BOUND
    counts = store.counters(NO_BOOT)
    sent = deliver(store)
    assert sent == [large(number).uid for number in range(200 - len(sent), 200)]
    assert len(sent) > 50
    assert counts == {"dropped.logs": 200 - len(sent), "dropped.traces": 200 - len(sent)}
    assert any("is at its size limit" in message for message in caplog.messages)


def test_the_outbox_keeps_room_of_its_own(store: Store) -> None:
    """A journal that is full to the bound can still be sent, one batch after the other."""
    for number in range(200):
        store.insert(large(number), SNAPSHOT)
    assert store.counters(NO_BOOT)["dropped.logs"] > 0
    queue(store, b"m" * 5000)
    assert len(deliver(store)) > 50


def test_dead_letters_go_before_what_can_still_be_sent(store: Store) -> None:
    """What the backend will never take is less than what it might."""
    for number in range(20):
        store.insert(sample_kill(number), SNAPSHOT)
    queue(store, b"m" * 100_000)
    store.reject(store.next_batch("logs", 10, ALL), Rejection("http://host", "no"))
    for number in range(100, 200):
        store.insert(large(number), SNAPSHOT)
    counts = store.counters(NO_BOOT)
    assert counts["rejected.logs"] == counts["dropped.dead_letters"] == 10
    assert store.stats.row_counts()["dead_letters"] == 0


def test_history_has_its_age(store: Store) -> None:
    """What was delivered goes when it is too old; what nobody has taken does not."""
    for number in range(4):
        store.insert(sample_kill(number), SNAPSHOT)
    queue(store)
    store.ack(store.next_batch("logs", 3, ALL))
    store.ack(store.next_batch("traces", 3, ALL))
    with closing(sqlite3.connect(store.folder / "otel-oom.db")) as database, database:
        for id_, age_ns in ((1, DAY_NS + 10**9), (2, DAY_NS - 60 * 10**9), (4, 9 * DAY_NS)):
            database.execute(
                "UPDATE events SET stored_unix_ns = ? WHERE id = ?", (time.time_ns() - age_ns, id_)
            )
    assert store.maintain() > 0
    assert events(store) == [sample_kill(number).uid for number in (1, 2, 3)]


def test_a_kill_whose_history_went_is_not_told_again(tmp_path: Path) -> None:
    """The kernel's log can tell of it as long as the host is up, and no longer."""
    now = clock.boot_id()
    events_ = [large(0, now), large(1), sample_kill(2, boot_id=now)]
    with Store(tmp_path, StoreLimits(BOUND, 0)) as store:
        for event in events_:
            store.insert(event, SNAPSHOT)
        known = store.stored_kills(now, 10)
        queue(store)
        deliver(store)
        store.maintain()
        assert events(store) == []
        assert store.stored_kills(now, 10) == known
        assert len(known) == 2
        assert not store.insert(events_[0], SNAPSHOT)
        assert not store.insert(events_[2], SNAPSHOT)
        assert store.stats.row_counts()["events"] == 2
        assert store.insert(events_[1], SNAPSHOT)


def test_a_panic_whose_history_went_is_not_told_again(tmp_path: Path) -> None:
    """The kernel's store can tell of it at every start, whatever boot that is of."""
    with Store(tmp_path, StoreLimits(BOUND, 0)) as store:
        assert store.insert(PANIC, SNAPSHOT)
        queue(store)
        deliver(store)
        store.maintain()
        assert events(store) == []
    with Store(tmp_path, StoreLimits(BOUND, 0)) as store:
        store.maintain()
        assert not store.insert(PANIC, SNAPSHOT)
        assert store.pending_events(1, BOOT, FAR) == []


def test_the_file_becomes_smaller_again(store: Store) -> None:
    """After a long outage has been made up for, the disk has its room back."""
    path = store.folder / "otel-oom.db"
    for number in range(100):
        store.insert(large(number), SNAPSHOT)
    queue(store)
    deliver(store)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE events SET stored_unix_ns = 0")
        grown = database.execute("PRAGMA page_count").fetchone()[0]
    store.maintain()
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute("PRAGMA page_count").fetchone()[0] < grown - 256
    assert store.insert(large(1000), SNAPSHOT)


def test_a_bound_that_was_lowered_holds(tmp_path: Path) -> None:
    """A store that is larger than it may be now lets go of what is over, and says how much."""
    with Store(tmp_path, StoreLimits(64 << 20)) as store:
        for number in range(300):
            store.insert(large(number), SNAPSHOT)
    with Store(tmp_path, StoreLimits(BOUND)) as store:
        for number in range(300, 330):
            assert store.insert(large(number), SNAPSHOT)
        store.maintain()
        dropped = store.counters(NO_BOOT)["dropped.logs"]
        assert store.stats.row_counts()["events"] == 330 - dropped
        assert store.pending_events(1, BOOT, FAR)[0].event == large(dropped)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, StoreLimits()),
        ({MAX_BYTES: "", MAX_AGE: " "}, StoreLimits()),
        ({MAX_BYTES: "33554432"}, StoreLimits(max_bytes=32 << 20)),
        ({MAX_BYTES: "1GiB", MAX_AGE: "90d"}, StoreLimits(1 << 30, 90 * 86_400)),
        ({MAX_BYTES: "65536 KiB", MAX_AGE: "0s"}, StoreLimits(64 << 20, 0)),
        ({MAX_AGE: "36h"}, StoreLimits(max_age_s=36 * 3600)),
    ],
)
def test_the_bounds_are_read(environ: dict[str, str], expected: StoreLimits) -> None:
    """An amount with its unit; what is not set is 256 MiB and 30 days."""
    assert read_store_limits(environ) == expected
    assert StoreLimits() == StoreLimits(256 * 1024 * 1024, 30 * 24 * 60 * 60)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (MAX_BYTES, "1MiB"),
        (MAX_BYTES, "256MB"),
        (MAX_BYTES, "-1"),
        (MAX_BYTES, "lots"),
        (MAX_BYTES, "9" * 30),
        (MAX_AGE, "30"),
        (MAX_AGE, "1 month"),
        (MAX_AGE, "99999d"),
    ],
)
def test_a_bound_that_cant_be_used_is_told(name: str, text: str) -> None:
    """The message names the variable, the value and what it takes."""
    with pytest.raises(ConfigError, match=f"{name}='{text}' is invalid: use "):
        read_store_limits({name: text})


def test_what_an_event_was_told_as_goes_before_what_nobody_has_taken(store: Store) -> None:
    """It can be told anew; so it takes no event's place in an outage."""
    for number in range(30):
        store.insert(large(number), SNAPSHOT)
    kills = [sample_kill(number) for number in range(30, 40)]
    for event in kills:
        store.insert(event, SNAPSHOT)
    payload = os.urandom(40_000)
    # Behind others that are not told yet, and older.
    for row in store.pending_events(ALL, BOOT, FAR)[30:]:
        store.enqueue([OutboxEntry(row.id, row.event.uid, payload, payload)])
    assert sum(row.log is not None for row in store.history.page_before(None)) == len(kills)
    for number in range(100, 300):
        store.insert(large(number), SNAPSHOT)
        if any(name.startswith("dropped") for name in store.counters(NO_BOOT)):
            break
    assert store.counters(NO_BOOT)["dropped.logs"] > 0
    with closing(sqlite3.connect(store.folder / "otel-oom.db")) as database:
        assert database.execute("SELECT count(*) FROM encoded_events").fetchone() == (0,)


def test_at_the_bound_nothing_is_kept_that_could_be_done_without(store: Store) -> None:
    """What is told then is sent, and its history is told anew."""
    for number in range(200):
        store.insert(large(number), SNAPSHOT)
    queue(store, os.urandom(5_000))
    newest = store.history.page_before(None)[0]
    assert (newest.log, newest.log_status) == (None, "queued")
