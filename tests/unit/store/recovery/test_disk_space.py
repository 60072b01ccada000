"""A full disk: nothing that is stored is lost."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from otel_oom.model.events import OomKill
from otel_oom.store import OutboxEntry, Rejection, Store, StoreError
from otel_oom.store.counters import NO_BOOT
from otel_oom.store.recovery.disk_space import RESERVE_BYTES
from tests.testlib.kernel.disk import Disk, mount_disk
from tests.testlib.samples.events import KILL, SNAPSHOT, sample_kill
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.root

BOOT = KILL.boot_id
FAR = 1 << 62
ALL = 1 << 40
PAYLOAD = b"x" * 2500


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 16 MiB."""
    with mount_disk(tmp_path / "disk", "16M") as mounted:
        yield mounted


def insert_until_full(store: Store, first: int = 0) -> int:
    """Insert kills until the disk is full, and return the number of the first that was not."""
    for number in range(first, first + 10_000):
        try:
            store.insert(sample_kill(number), SNAPSHOT)
        except sqlite3.OperationalError:
            return number
    pytest.fail("ten thousand kills fit into a full disk")


def can_insert(store: Store, event: OomKill) -> bool:
    try:
        return store.insert(event, SNAPSHOT)
    except sqlite3.OperationalError:
        return False


def enqueue_all(store: Store) -> None:
    """Move the events to the outbox, as far as there is space."""
    with suppress(sqlite3.OperationalError):
        while rows := store.pending_events(128, BOOT, FAR):
            store.enqueue([OutboxEntry(row.id, row.event.uid, PAYLOAD, PAYLOAD) for row in rows])


def deliver_all(store: Store) -> list[str]:
    """Acknowledge all messages, and return their uids, each as often as it was sent."""
    sent = []
    for signal in ("logs", "traces"):
        while messages := store.next_batch(signal, 512, 1 << 21):
            sent += [message.uid for message in messages]
            store.ack(messages)
    return sent


def uids(first: int, after: int) -> list[str]:
    """Return the uids of the log and of the span of each kill, sorted."""
    return sorted(2 * [sample_kill(number).uid for number in range(first, after)])


def test_sending_frees_space(small: Disk) -> None:
    with Store(small.path / "state") as store:
        small.fill()
        first = 0
        for _ in range(5):
            after = insert_until_full(store, first)
            assert after > first, "sending freed no space"
            enqueue_all(store)
            assert sorted(deliver_all(store)) == uids(first, after)
            assert store.stats.row_counts()["outbox"] == 0
            first = after


def test_a_full_disk_is_logged_once_and_recovered_from(
    small: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "otel_oom.store")
    with Store(small.path / "state") as store:
        small.fill()
        after = insert_until_full(store)
        for _ in range(10):
            assert insert_until_full(store, after) == after
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "disk full" in caplog.text
        small.clear()
        wait_until(lambda: can_insert(store, sample_kill(after)), "kills are stored again")
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
        assert "has space again" in caplog.messages[1]
        assert (store.path / "reserve").stat().st_blocks * 512 >= RESERVE_BYTES


def test_nothing_is_dropped_while_the_disk_is_full(small: Disk) -> None:
    with Store(small.path / "state") as store:
        small.fill()
        stored = 0
        for _ in range(3):
            stored = insert_until_full(store, stored)
            enqueue_all(store)
        assert not any(name.startswith("dropped") for name in store.counters(NO_BOOT))
        sent: list[str] = []
        for _ in range(20):
            enqueue_all(store)
            sent += deliver_all(store)
        assert sorted(sent) == uids(0, stored)


@pytest.mark.parametrize("way", ["full", "busy"])
def test_acknowledged_messages_are_not_sent_again(small: Disk, way: str) -> None:
    with Store(small.path / "state") as store:
        for number in range(20):
            store.insert(sample_kill(number), SNAPSHOT)
        enqueue_all(store)
        messages = store.next_batch("logs", 10, ALL)
        with disk_full(store, small) if way == "full" else busy(store):
            store.ack(messages[:9])
            store.reject(messages[9:], Rejection("http://host", "no"))
            batch = store.next_batch("logs", 100, ALL)
            assert [m.uid for m in batch] == [sample_kill(number).uid for number in range(10, 20)]
            assert store.stats.row_counts()["outbox"] == 40
        store.maintain()
        assert store.stats.row_counts()["outbox"] == 30
        assert store.stats.row_counts()["dead_letters"] == 1
        assert store.counters(NO_BOOT) == {"sent.logs": 9, "rejected.logs": 1}


@contextmanager
def disk_full(store: Store, small: Disk) -> Iterator[None]:
    """Have another program use the released reserve, with the log full."""
    os.truncate(store.path / "reserve", 0)
    small.fill()
    insert_until_full(store, 100)
    yield
    small.clear()


@contextmanager
def busy(store: Store) -> Iterator[None]:
    """Have another process lock the file, so that nothing can be written."""
    with closing(sqlite3.connect(store.path / "otel-oom.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_open_on_a_full_disk(small: Disk) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from otel_oom.store import Store\n"
        "store = Store(Path(sys.argv[1])).__enter__()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    state = small.path / "state"
    with Store(state) as store:
        small.fill()
        stored = insert_until_full(store)
        enqueue_all(store)
    small.fill()
    with Store(state) as store:
        assert len(store.next_batch("logs", 10_000, ALL)) == stored
    small.fill()
    subprocess.run([sys.executable, "-c", program, state], check=False, cwd=Path.cwd())
    small.fill()
    with Store(state) as store:
        assert sorted(deliver_all(store)) == uids(0, stored)
        assert store.stats.row_counts()["outbox"] == 0


def test_a_new_database_on_a_full_disk_raises(small: Disk) -> None:
    small.fill()
    with pytest.raises(StoreError, match="can't be"), Store(small.path / "state"):
        pass
