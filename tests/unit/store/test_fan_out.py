"""Fan-out: each exporter of a signal has its own copy of a message, and its own progress."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.model.events import OomKill
from otel_oom.model.types import Memcg
from otel_oom.store import OutboxEntry, Rejection, Store, StoreLimits
from otel_oom.store.counters import NO_BOOT
from tests.testlib.samples.events import KILL, SNAPSHOT, sample_kill

BOTH = {"logs": ("logs", "logs:vendor"), "traces": ("traces",)}
BOOT = KILL.boot_id
FAR = 1 << 62
ALL = 1 << 40


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that feeds OTLP and another exporter of logs."""
    with Store(tmp_path / "state", StoreLimits(16 << 20)) as opened:
        opened.set_channels(BOTH)
        yield opened


def uids(store: Store, channel: str) -> list[str]:
    return [message.uid for message in store.next_batch(channel, 1000, ALL)]


def ack(store: Store, channel: str, count: int = 1000) -> None:
    store.ack(store.next_batch(channel, count, ALL))


def settled(store: Store) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database:
        return database.execute("SELECT uid, channel FROM settled_messages").fetchall()


def enqueue(store: Store, *names: str) -> None:
    for name in names:
        store.enqueue([OutboxEntry(0, name, b"log " + name.encode(), b"span")])


def encode_pending(store: Store, end_log: bytes | None = None) -> list[str]:
    rows = store.pending_events(1000, BOOT, FAR)
    store.enqueue(
        [OutboxEntry(row.id, row.event.uid, b"short", b"span", end_log=end_log) for row in rows]
    )
    return [row.event.uid for row in rows]


def test_each_exporter_gets_each_message_and_only_of_its_signal(store: Store) -> None:
    enqueue(store, "a", "b")
    assert uids(store, "logs") == uids(store, "logs:vendor") == uids(store, "traces") == ["a", "b"]
    assert uids(store, "traces:vendor") == []


def test_one_exporter_that_accepts_does_not_wait_for_another(store: Store, tmp_path: Path) -> None:
    """Neither gets the same again after a restart."""
    enqueue(store, "a", "b")
    ack(store, "logs")
    ack(store, "logs:vendor", 1)
    assert (uids(store, "logs"), uids(store, "logs:vendor")) == ([], ["b"])
    store.__exit__(None, None, None)
    with Store(tmp_path / "state") as again:
        again.set_channels(BOTH)
        assert (uids(again, "logs"), uids(again, "logs:vendor")) == ([], ["b"])


def test_a_rejection_by_one_exporter_is_its_own(store: Store) -> None:
    enqueue(store, "a")
    store.reject(store.next_batch("logs:vendor", 1, ALL), Rejection("exporter vendor", "no"))
    assert uids(store, "logs") == ["a"]
    (letter,) = store.dead_letters.page(0, 10)
    assert (letter.channel, letter.uid) == ("logs:vendor", "a")
    store.dead_letters.resend([letter.id])
    assert uids(store, "logs:vendor") == ["a"]
    counts = store.counters(NO_BOOT)
    assert counts == {"rejected.logs:vendor": 1}


def test_progress_is_forgotten_once_all_have_a_message(store: Store) -> None:
    enqueue(store, "a")
    ack(store, "logs")
    assert settled(store) == [("a", "logs")]
    ack(store, "logs:vendor")
    assert settled(store) == []


def test_a_log_is_delivered_once_all_exporters_have_it(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    encode_pending(store)
    for channel, status in (("logs", "queued"), ("logs:vendor", "delivered")):
        ack(store, channel)
        (row,) = store.history.page_before(None)
        assert row.log_status == status


def kill_with_report(number: int) -> OomKill:
    kill = replace(sample_kill(number), memcg=Memcg(7, "/loud"), original="r" * 50_000)
    return replace(kill, stack=("s" * 10_000,))


def drop_reports(store: Store, first: int) -> None:
    """Store kills until reports are dropped at the size limit."""
    number = first
    while store.counters(NO_BOOT).get("dropped.reports", 0) < 3:
        number += 1
        store.insert(kill_with_report(number), SNAPSHOT)


def test_a_log_without_its_report_goes_to_those_alone_that_still_need_one(store: Store) -> None:
    """At the size limit the report is dropped, and the log encoded again."""
    for number in range(10):
        store.insert(kill_with_report(number), SNAPSHOT)
    encode_pending(store)
    had = uids(store, "logs")
    ack(store, "logs")
    drop_reports(store, 10)
    again = encode_pending(store)
    assert set(again) & set(had)
    assert not set(uids(store, "logs")) & set(had)
    assert set(had) <= set(uids(store, "logs:vendor"))


def test_a_log_that_one_exporter_accepts_while_its_report_is_dropped(store: Store) -> None:
    """It is encoded again for the other alone."""
    for number in range(10):
        store.insert(kill_with_report(number), SNAPSHOT)
    encode_pending(store)
    in_flight = store.next_batch("logs", 4, ALL)
    drop_reports(store, 10)
    pending = {row.event.uid for row in store.pending_events(1000, BOOT, FAR)}
    dropped = {message.uid for message in in_flight} & pending
    assert dropped
    store.ack(in_flight)
    encode_pending(store)
    assert not dropped & set(uids(store, "logs"))
    assert dropped <= set(uids(store, "logs:vendor"))


@pytest.mark.slow
def test_the_size_limit_holds_for_all_copies_together(store: Store) -> None:
    """An exporter that never accepts anything loses the oldest, and the others nothing."""
    for number in range(400):
        event = sample_kill(number)
        store.insert(event, SNAPSHOT)
        (row,) = store.pending_events(1, BOOT, FAR)
        store.enqueue([OutboxEntry(row.id, event.uid, bytes(60_000), b"span")])
        ack(store, "logs")
        ack(store, "traces")
    size = sum(path.stat().st_size for path in store.path.iterdir() if path.is_file())
    assert size <= 16 << 20
    counts = store.counters(NO_BOOT)
    assert counts["sent.logs"] == counts["sent.traces"] == 400
    left = uids(store, "logs:vendor")
    assert left[-1] == sample_kill(399).uid
    assert counts["dropped.logs"] == 400 - len(left)


def test_messages_of_a_removed_exporter_go_to_those_that_have_not_had_them(store: Store) -> None:
    enqueue(store, "a", "b", "c")
    ack(store, "logs", 1)
    ack(store, "logs:vendor", 2)
    store.set_channels({"logs": ("logs:other", "logs"), "traces": ("traces",)})
    # `logs` had a; it still has b and c. `other` has what either left.
    assert uids(store, "logs") == ["b", "c"]
    assert uids(store, "logs:vendor") == []
    assert uids(store, "logs:other") == ["c"]
    store.set_channels({"logs": ("logs",), "traces": ("traces",)})
    assert (uids(store, "logs"), uids(store, "logs:other")) == (["b", "c"], [])


def test_more_messages_than_one_step_moves_are_moved(store: Store) -> None:
    names = [f"kill-{number:03}" for number in range(150)]
    enqueue(store, *names)
    store.set_channels({"logs": ("logs:vendor",), "traces": ("traces:vendor",)})
    assert uids(store, "logs:vendor") == uids(store, "traces:vendor") == names
    assert {backlog.channel for backlog in store.stats.backlogs()} == {
        "logs:vendor",
        "traces:vendor",
    }


def test_a_damaged_message_that_is_moved_stays_damaged(store: Store, tmp_path: Path) -> None:
    """It is encoded again from its event."""
    store.insert(KILL, SNAPSHOT)
    encode_pending(store)
    ack(store, "logs")
    store.__exit__(None, None, None)
    with closing(sqlite3.connect(tmp_path / "state" / "otel-oom.db")) as database, database:
        database.execute("UPDATE outbox SET payload = x'00' WHERE signal = 'logs:vendor'")
    with Store(tmp_path / "state") as again:
        again.set_channels({"logs": ("logs:other",), "traces": ("traces",)})
        again.next_batch("logs:other", 10, ALL)
        (quarantined,) = again.quarantined_databases()
        assert "wrong checksum of message" in quarantined.reason
        assert encode_pending(again) == [KILL.uid]
        (message,) = again.next_batch("logs:other", 10, ALL)
        assert message.payload == b"short"


def test_messages_of_a_signal_that_is_off_stay(store: Store) -> None:
    enqueue(store, "a")
    store.set_channels({"traces": ("traces",)})
    assert uids(store, "logs") == uids(store, "logs:vendor") == ["a"]


def test_a_lost_part_of_the_outbox_is_encoded_again_for_each_exporter(
    store: Store, tmp_path: Path
) -> None:
    """Not for one that is known to have it."""
    for number in range(2):
        store.insert(sample_kill(number), SNAPSHOT)
    encode_pending(store, b"end")
    first, second = sample_kill(0).uid, sample_kill(1).uid
    ack(store, "logs", 1)
    store.__exit__(None, None, None)
    with closing(sqlite3.connect(tmp_path / "state" / "otel-oom.db")) as database, database:
        damage = "UPDATE outbox SET payload = x'00' WHERE signal = 'logs:vendor' AND uid = ?"
        database.execute(damage, (first,))
    with Store(tmp_path / "state") as again:
        again.set_channels(BOTH)
        again.next_batch("logs:vendor", 10, ALL)
        assert encode_pending(again, b"end") == [first]
        ends = [f"{first}/end", f"{second}/end"]
        assert sorted(uids(again, "logs")) == sorted([second, *ends])
        assert sorted(uids(again, "logs:vendor")) == sorted([first, second, *ends])


def test_a_file_of_version_2_keeps_its_messages(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        enqueue(store, "a")
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database, database:
        database.execute("DROP TABLE settled_messages")
        database.execute("DROP TRIGGER events_settled")
        database.execute("DROP TABLE series")
        database.execute("DROP TABLE repeats")
        for name in ("repeat_count", "repeat_first_unix_ns"):
            database.execute(f"ALTER TABLE events DROP COLUMN {name}")
        database.execute("PRAGMA user_version = 2")
    with Store(tmp_path) as store:
        store.set_channels(BOTH)
        enqueue(store, "b")
        assert (uids(store, "logs"), uids(store, "logs:vendor")) == (["a", "b"], ["b"])
        ack(store, "logs")
        assert settled(store) == [("b", "logs")]
