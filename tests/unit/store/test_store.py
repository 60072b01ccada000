"""The store: events, their exits, the outbox."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.model.snapshot import Snapshot
from otel_oom.store import OutboxEntry, PendingEvent, Rejection, Store
from otel_oom.store.counters import NO_BOOT
from tests.testlib.samples.events import (
    EXIT,
    KILL,
    NO_VICTIM,
    PANIC,
    REAPER_STEPS,
    SNAPSHOT,
    sample_kill,
)

FAR = 1 << 62
NEVER = 0
BOOT = KILL.boot_id


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store(tmp_path / "state") as opened:
        yield opened


def enqueue(store: Store, row: PendingEvent, log: bytes | None, span: bytes | None) -> None:
    store.enqueue([OutboxEntry(row.id, row.event.uid, log, span)])


def test_roundtrip(store: Store) -> None:
    assert store.insert(KILL, SNAPSHOT)
    store.add_exit(KILL.boot_id, EXIT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert (row.event, row.snapshot, row.exit) == (KILL, SNAPSHOT, EXIT)
    assert not row.log_queued
    assert not row.span_queued


def test_a_kill_is_inserted_once(store: Store) -> None:
    assert store.insert(KILL, SNAPSHOT)
    assert not store.insert(replace(KILL, time_unix_ns=1), SNAPSHOT)
    assert store.stats.row_counts()["events"] == 1


def test_a_process_that_is_marked_again_is_the_same_kill(store: Store) -> None:
    assert store.insert(KILL, SNAPSHOT)
    again = replace(KILL, boottime_ns=KILL.boottime_ns + 10**9)
    assert again.uid != KILL.uid
    assert not store.insert(again, SNAPSHOT)


def test_a_decoded_event_is_not_decoded_again(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    store.insert(sample_kill(1), SNAPSHOT)
    for row in store.pending_events(10, BOOT, NEVER):
        enqueue(store, row, b"log", None)
    rows = store.pending_events(10, BOOT, FAR)
    first, second = store.pending_events(10, BOOT, FAR, {KILL.uid: rows[0]})
    assert [first, second] == rows
    assert first.event is rows[0].event
    assert first.snapshot is rows[0].snapshot
    assert second.event is not rows[1].event


def test_an_incomplete_kill_is_pending_once_completed(store: Store) -> None:
    early = replace(KILL, tasks=None, decision=None)
    assert store.insert(early, replace(SNAPSHOT, vm_sysctl={}), incomplete=True)
    store.insert(sample_kill(1), SNAPSHOT)
    assert [row.event for row in store.pending_events(10, BOOT, NEVER)] == [sample_kill(1)]
    store.complete(KILL, SNAPSHOT)
    first, _ = store.pending_events(10, BOOT, NEVER)
    assert (first.event, first.snapshot) == (KILL, SNAPSHOT)


def test_completing_without_a_snapshot_keeps_the_first(store: Store) -> None:
    store.insert(KILL, SNAPSHOT, incomplete=True)
    assert not store.insert(KILL, SNAPSHOT, incomplete=True)
    assert store.pending_events(10, BOOT, NEVER) == []
    store.complete(KILL, None)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.snapshot == SNAPSHOT


def test_an_incomplete_kill_is_pending_after_a_restart(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.insert(KILL, SNAPSHOT, incomplete=True)
    with Store(tmp_path) as store:
        (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.event == KILL


def test_an_exit_needs_boot_pid_and_start(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    assert not store.add_exit(KILL.boot_id, replace(EXIT, start_boottime_ns=1))
    assert not store.add_exit(KILL.boot_id, replace(EXIT, start_boottime_ns=None))
    assert not store.add_exit("another boot", EXIT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.exit is None


def test_an_exit_without_a_start_belongs_to_the_last_victim(store: Store) -> None:
    unknown = replace(KILL.victim, start_boottime_ns=None)
    for at in (1, 2):
        store.insert(sample_kill(at, victim=unknown), SNAPSHOT)
    store.insert(KILL, SNAPSHOT)
    step, end = (
        replace(REAPER_STEPS[0], start_boottime_ns=None),
        replace(EXIT, start_boottime_ns=None, exit_code=None),
    )
    assert store.add_reaper_step(BOOT, step)
    assert store.add_exit(BOOT, end)
    first, last, known = store.pending_events(10, BOOT, NEVER)
    assert (last.reaper_steps, last.exit) == ((step,), end)
    assert (first.reaper_steps, first.exit, known.reaper_steps, known.exit) == ((), None, (), None)


def test_an_exit_matches_a_victim_without_a_start(store: Store) -> None:
    store.insert(sample_kill(1, victim=replace(KILL.victim, start_boottime_ns=None)), SNAPSHOT)
    store.insert(KILL, SNAPSHOT)
    later = replace(EXIT, start_boottime_ns=(EXIT.start_boottime_ns or 0) + 1)
    assert store.add_exit(BOOT, EXIT)
    assert store.add_exit(BOOT, later)
    unknown, known = store.pending_events(10, BOOT, NEVER)
    assert (unknown.exit, known.exit) == (later, EXIT)


def test_the_log_is_pending_first_and_the_span_after_the_exit(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    enqueue(store, row, b"log", None)
    assert store.pending_events(10, BOOT, NEVER) == []
    assert store.oldest_pending_boottime_ns(BOOT) == KILL.boottime_ns
    store.add_exit(KILL.boot_id, EXIT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.log_queued
    enqueue(store, row, None, b"span")
    assert store.pending_events(10, BOOT, FAR) == []
    assert store.oldest_pending_boottime_ns(BOOT) is None
    assert [m.payload for m in store.next_batch("logs", 10, 1000)] == [b"log"]
    assert [m.payload for m in store.next_batch("traces", 10, 1000)] == [b"span"]


def test_a_span_is_due_after_the_deadline(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    enqueue(store, row, b"log", None)
    assert len(store.pending_events(10, BOOT, FAR)) == 1


def test_a_span_of_another_boot_is_due(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert not row.exit_overdue
    enqueue(store, row, b"log", None)
    (row,) = store.pending_events(10, "the next boot", NEVER)
    assert row.exit_overdue


def test_only_a_kill_has_a_span(store: Store) -> None:
    skipped = sample_kill(1, skipped=True)
    for event in (NO_VICTIM, skipped):
        assert store.insert(event, SNAPSHOT)
    rows = store.pending_events(10, BOOT, NEVER)
    assert [row.event for row in rows] == [NO_VICTIM, skipped]
    assert all(row.span_queued for row in rows)


def test_a_panic_is_inserted_once(store: Store) -> None:
    assert store.insert(PANIC, Snapshot(process_found=False))
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert (row.event, row.span_queued) == (PANIC, True)
    enqueue(store, row, b"log", None)
    assert not store.insert(
        replace(PANIC, boot_id="", time_unix_ns=1), Snapshot(process_found=False)
    )
    assert store.pending_events(10, BOOT, FAR) == []


def test_a_skipped_process_can_still_be_killed(store: Store) -> None:
    assert store.insert(sample_kill(skipped=True), SNAPSHOT)
    assert store.insert(sample_kill(boottime_ns=KILL.boottime_ns + 1), SNAPSHOT)


def test_reaper_steps_of_a_victim_are_bounded(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    assert store.add_reaper_step(BOOT, REAPER_STEPS[0])
    assert store.add_reaper_step(BOOT, REAPER_STEPS[1])
    assert not store.add_reaper_step(BOOT, replace(REAPER_STEPS[0], start_boottime_ns=1))
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.reaper_steps == REAPER_STEPS
    for _ in range(100):
        store.add_reaper_step(BOOT, REAPER_STEPS[0])
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert len(row.reaper_steps) == 16


def test_fields_of_a_later_version_are_ignored(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as newer, newer:
        newer.execute(
            "UPDATE events SET crc32 = NULL, event = json_set(event, '$.new', 1, '$.victim.new', 2)"
        )
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.event == KILL


def test_kills_without_exit_do_not_delay_others(store: Store) -> None:
    for number in range(100):
        store.insert(sample_kill(number), SNAPSHOT)
    for row in store.pending_events(100, BOOT, NEVER):
        enqueue(store, row, b"log", None)
    store.insert(sample_kill(1000), SNAPSHOT)
    assert [row.event for row in store.pending_events(1, BOOT, NEVER)] == [sample_kill(1000)]


def test_batches_are_bounded_and_oldest_first(store: Store) -> None:
    for number in range(5):
        store.insert(sample_kill(number), SNAPSHOT)
    for row in store.pending_events(10, BOOT, NEVER):
        enqueue(store, row, b"%d" % row.id * 100, None)
    assert [m.payload[:1] for m in store.next_batch("logs", 3, 10**6)] == [b"1", b"2", b"3"]
    assert [m.payload[:1] for m in store.next_batch("logs", 10, 250)] == [b"1", b"2"]
    assert len(store.next_batch("logs", 10, 1)) == 1


def test_ack_deletes_and_reject_keeps_a_dead_letter(store: Store) -> None:
    for number in range(3):
        store.insert(sample_kill(number), SNAPSHOT)
    for row in store.pending_events(10, BOOT, NEVER):
        enqueue(store, row, b"log", None)
    first, second, third = store.next_batch("logs", 10, 1000)
    store.ack([first])
    store.reject([second], Rejection("http://host", "HTTP 400: no"))
    assert store.next_batch("logs", 10, 1000) == [third]
    assert store.stats.row_counts() == {"events": 3, "outbox": 1, "dead_letters": 1}


def test_the_end_is_a_message_of_its_own_and_queued_once(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    entry = OutboxEntry(1, KILL.uid, None, b"span", end_log=b"end")
    for _ in range(2):
        store.enqueue([OutboxEntry(1, KILL.uid, b"log", None), entry])
    assert store.pending_events(10, BOOT, FAR) == []
    log, end = store.next_batch("logs", 10, 1000)
    assert (log.payload, end.payload) == (b"log", b"end")
    assert log.uid == KILL.uid != end.uid
    assert log.holder == end.holder
    store.reject([end], Rejection("http://host", "HTTP 400: no"))
    assert store.next_batch("logs", 10, 1000) == [log]
    assert store.history.page_before(None)[0].log_status == "queued"


def test_an_end_without_a_span_is_queued(store: Store) -> None:
    """Where traces are off."""
    store.insert(KILL, SNAPSHOT)
    off = frozenset({"traces"})
    store.enqueue([OutboxEntry(1, KILL.uid, b"log", None, {}, off, end_log=b"end")])
    assert store.pending_events(10, BOOT, FAR) == []
    assert [m.payload for m in store.next_batch("logs", 10, 1000)] == [b"log", b"end"]


def test_concurrent_acks(store: Store) -> None:
    for number in range(100):
        store.enqueue([OutboxEntry(0, sample_kill(number).uid, b"log", b"span")])

    def deliver(signal: str) -> int:
        count = 0
        while messages := store.next_batch(signal, 1, 1000):
            store.ack(messages)
            count += 1
        return count

    with ThreadPoolExecutor() as threads:
        assert list(threads.map(deliver, ("logs", "traces"))) == [100, 100]
    assert store.counters(NO_BOOT) == {"sent.logs": 100, "sent.traces": 100}


def test_an_inserted_kill_survives_sigkill(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from otel_oom.store import Store\n"
        "from tests.testlib.samples.events import KILL, SNAPSHOT\n"
        "store = Store(Path(sys.argv[1])).__enter__()\n"
        "store.insert(KILL, SNAPSHOT)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=False, cwd=Path.cwd())
    with Store(tmp_path) as store:
        assert [row.event for row in store.pending_events(10, BOOT, NEVER)] == [KILL]


def test_a_stored_kill_is_synced(store: Store, tmp_path: Path) -> None:
    store.insert(KILL, SNAPSHOT)
    store.add_exit(BOOT, EXIT)
    store.insert(sample_kill(1), SNAPSHOT)

    def setting(name: str) -> object:
        # The setting is the connection's: no other can read it.
        return store._database.read(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])  # noqa: SLF001

    assert setting("synchronous") == 2
    assert setting("journal_mode") == "wal"
    assert (tmp_path / "state" / "otel-oom.db-wal").exists()
