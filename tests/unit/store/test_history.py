"""The host's own history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.store import HistoryRow, OutboxEntry, Rejection, Store
from otel_oom.store.counters import NO_BOOT
from tests.testlib.samples.events import EXIT, KILL, NO_VICTIM, SNAPSHOT, sample_kill

ALL = 1 << 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in the test's folder."""
    with Store(tmp_path) as opened:
        yield opened


def insert_and_enqueue(store: Store, number: int = 0, *, span: bytes | None = b"span") -> str:
    """Insert the kill of that number, add its messages, and return its uid."""
    one = sample_kill(number)
    store.insert(one, SNAPSHOT)
    (row,) = (row for row in store.pending_events(ALL, one.boot_id, 0) if row.event.uid == one.uid)
    store.enqueue([OutboxEntry(row.id, one.uid, b"log of %d" % number, span)])
    return one.uid


def deliver(store: Store) -> None:
    for signal in ("logs", "traces"):
        store.ack(store.next_batch(signal, ALL, ALL))


def newest(store: Store) -> HistoryRow:
    return store.history.page_before(None)[0]


def test_encoded_bytes_stay_after_delivery(store: Store) -> None:
    insert_and_enqueue(store)
    deliver(store)
    assert store.stats.row_counts()["outbox"] == 0
    row = newest(store)
    assert (row.log, row.span) == (b"log of 0", b"span")
    assert (row.log_status, row.span_status) == ("delivered", "delivered")


def test_status_of_log_and_span(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    assert (newest(store).log_status, newest(store).span_status) == ("pending", "pending")
    store.enqueue([OutboxEntry(newest(store).id, KILL.uid, b"log", None)])
    assert (newest(store).log_status, newest(store).span_status) == ("queued", "pending")
    assert (newest(store).log, newest(store).span) == (b"log", None)
    store.add_exit(KILL.boot_id, EXIT)
    store.enqueue([OutboxEntry(newest(store).id, KILL.uid, None, b"span")])
    deliver_log = store.next_batch("logs", ALL, ALL)
    store.reject(deliver_log, Rejection("http://there", "HTTP 400: no"))
    row = newest(store)
    assert row.log_status == "rejected by http://there: HTTP 400: no"
    assert (row.log, row.span, row.span_status) == (b"log", b"span", "queued")


def test_events_without_a_span_have_no_span_status(store: Store) -> None:
    store.insert(NO_VICTIM, SNAPSHOT)
    assert (newest(store).kind, newest(store).span_status) == ("no_victim", None)
    store.insert(sample_kill(1, skipped=True), SNAPSHOT)
    assert (newest(store).kind, newest(store).span_status) == ("kill", None)


def test_pruning_an_event_deletes_its_encoded_bytes(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        insert_and_enqueue(store, 0)
        deliver(store)
        pending = sample_kill(1)
        store.insert(pending, SNAPSHOT)
        store._database.prune(0)  # noqa: SLF001  as upkeep does, for an age that is over
        assert [row.uid for row in store.history.page_before(None)] == [pending.uid]
    assert count_encoded_events(tmp_path) == 0


def count_encoded_events(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "otel-oom.db")) as db:
        count: int = db.execute("SELECT count(*) FROM encoded_events").fetchone()[0]
        return count


def test_no_copy_of_a_message_without_event(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.enqueue([OutboxEntry(0, "nobody", b"log", b"span")])
    assert count_encoded_events(tmp_path) == 0


@pytest.mark.parametrize("damage", ["zeroblob(9)", "substr(payload, 1, 9)", "'text'", "1"])
def test_a_damaged_copy_is_not_shown(tmp_path: Path, damage: str) -> None:
    with Store(tmp_path) as store:
        insert_and_enqueue(store)
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as db, db:
        db.execute(f"UPDATE encoded_events SET payload = {damage} WHERE signal = 'logs'")  # noqa: S608  a list of our own
    with Store(tmp_path) as store:
        assert (newest(store).log, newest(store).span) == (None, b"span")


def test_pages_are_newest_first(store: Store) -> None:
    uids = [insert_and_enqueue(store, number, span=None) for number in range(40)]
    listed: list[str] = []
    before: int | None = None
    while rows := store.history.page_before(before):
        assert len(rows) <= 16
        listed += [row.uid for row in rows]
        before = rows[-1].id
    assert listed == uids[::-1]


def test_find_by_uid_or_pid(store: Store) -> None:
    first, second = insert_and_enqueue(store, 0), insert_and_enqueue(store, 1)
    store.insert(replace(NO_VICTIM, boottime_ns=9), SNAPSHOT)
    ids = {row.uid: row.id for row in store.history.page_before(None)}
    assert store.history.find_by_uid(first[:20]) == [ids[first]]
    assert store.history.find_by_uid(first + "0") == []
    assert store.history.find_by_uid("%") == []
    assert store.history.find_by_pid(KILL.victim.tgid or 0) == [ids[second], ids[first]]
    assert store.history.find_by_pid(1) == []
    spared = replace(sample_kill(7, skipped=True), victim=replace(KILL.victim, tgid=88))
    store.insert(spared, SNAPSHOT)
    (spared_id,) = store.history.find_by_uid(spared.uid)
    assert store.history.find_by_pid(88) == [spared_id]
    assert store.history.find_newest_kill() == [spared_id]
    assert [row.uid for row in store.history.rows([ids[first], 99])] == [first]


def test_find_incident_members(store: Store) -> None:
    leader = sample_kill(0)
    store.insert(leader, SNAPSHOT)
    for number in range(1, 300):
        store.insert(sample_kill(number, incident=leader.uid if number % 2 else None), SNAPSHOT)
    (leader_id,) = store.history.find_by_uid(leader.uid)
    members: list[int] = []
    after: int | None = leader_id
    steps = 0
    while after is not None:
        ids, after = store.history.find_incident_members(leader.uid, after)
        members += ids
        steps += 1
    assert len(members) == 150
    assert steps == 3
    assert all(row.uid != leader.uid for row in store.history.rows(members[:9]))


def test_an_excluded_event_stays_with_its_status(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    both = frozenset({"logs", "traces"})
    counts = {"excluded.OTEL_OOM_EXCLUDE": 1}
    entry = OutboxEntry(newest(store).id, KILL.uid, None, None, counts=counts, excluded=both)
    store.enqueue([entry])
    assert (newest(store).log_status, newest(store).span_status) == ("excluded", "excluded")
    assert store.pending_events(ALL, KILL.boot_id, 0) == []
    assert store.stats.row_counts()["outbox"] == 0
    # Its exit is history too.
    store.add_exit(KILL.boot_id, EXIT)
    assert newest(store).exit is not None
    assert store.pending_events(ALL, KILL.boot_id, 0) == []
    store.enqueue([entry])
    assert store.counters(NO_BOOT)["excluded.OTEL_OOM_EXCLUDE"] == 1


def test_a_span_that_is_excluded_leaves_its_log_as_it_is(store: Store) -> None:
    uid = insert_and_enqueue(store, span=None)
    store.enqueue([OutboxEntry(newest(store).id, uid, None, None, excluded=frozenset({"traces"}))])
    assert (newest(store).log_status, newest(store).span_status) == ("queued", "excluded")
