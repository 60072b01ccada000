"""A disk that is really full: what is stored stays, goes out, and more comes in when it can."""

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


def record_until_full(store: Store, first: int = 0) -> int:
    """Record kills until the store takes no more; the number of the first that it did not take."""
    for number in range(first, first + 10_000):
        try:
            store.insert(sample_kill(number), SNAPSHOT)
        except sqlite3.OperationalError:
            return number
    pytest.fail("a full disk takes ten thousand kills")


def takes(store: Store, event: OomKill) -> bool:
    """Whether the store takes an event now."""
    try:
        return store.insert(event, SNAPSHOT)
    except sqlite3.OperationalError:
        return False


def queue_all(store: Store) -> None:
    """Move what is in the journal to the outbox, as far as there is room."""
    with suppress(sqlite3.OperationalError):
        while rows := store.pending_events(128, BOOT, FAR):
            store.enqueue([OutboxEntry(row.id, row.event.uid, PAYLOAD, PAYLOAD) for row in rows])


def deliver_all(store: Store) -> list[str]:
    """Let a backend take whatever waits; the uids, each as often as it was sent."""
    sent = []
    for signal in ("logs", "traces"):
        while messages := store.next_batch(signal, 512, 1 << 21):
            sent += [message.uid for message in messages]
            store.ack(messages)
    return sent


def uids(first: int, after: int) -> list[str]:
    """The uids of the log and of the span of each kill, in order."""
    return sorted(2 * [sample_kill(number).uid for number in range(first, after)])


def test_what_is_stored_goes_out_and_makes_room(small: Disk) -> None:
    """On a full disk what was taken is delivered, each once, and then as much is taken again."""
    with Store(small.path / "state") as store:
        small.fill()
        first = 0
        for _ in range(5):
            after = record_until_full(store, first)
            assert after > first, "what went out left no room"
            queue_all(store)
            assert sorted(deliver_all(store)) == uids(first, after)
            assert store.stats.row_counts()["outbox"] == 0
            first = after


def test_it_is_said_once_and_goes_on_by_itself(
    small: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """That the disk is full is one line, however often it is tried; so is that it has room."""
    caplog.set_level(logging.INFO, "otel_oom.store")
    with Store(small.path / "state") as store:
        small.fill()
        after = record_until_full(store)
        for _ in range(10):
            assert record_until_full(store, after) == after
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "disk full" in caplog.text
        small.clear()
        wait_until(lambda: takes(store, sample_kill(after)), "it takes kills again")
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
        assert "has space again" in caplog.messages[1]
        assert (store.folder / "reserve").stat().st_blocks * 512 >= RESERVE_BYTES


def test_a_backlog_waits_for_its_backend(small: Disk) -> None:
    """With the backend away and the disk full nothing is dropped, and all is delivered later."""
    with Store(small.path / "state") as store:
        small.fill()
        taken = 0
        for _ in range(3):
            taken = record_until_full(store, taken)
            queue_all(store)
        assert not any(name.startswith("dropped") for name in store.counters(NO_BOOT))
        sent: list[str] = []
        for _ in range(20):
            queue_all(store)
            sent += deliver_all(store)
        assert sorted(sent) == uids(0, taken)


@pytest.mark.parametrize("way", ["full", "busy"])
def test_what_was_taken_is_not_sent_again(small: Disk, way: str) -> None:
    """While the disk can't let go of what a backend took or refused, that is remembered."""
    with Store(small.path / "state") as store:
        for number in range(20):
            store.insert(sample_kill(number), SNAPSHOT)
        queue_all(store)
        messages = store.next_batch("logs", 10, ALL)
        with no_room(store, small) if way == "full" else busy(store):
            store.ack(messages[:9])
            store.reject(messages[9:], Rejection("http://host", "no"))
            waiting = store.next_batch("logs", 100, ALL)
            assert [m.uid for m in waiting] == [sample_kill(number).uid for number in range(10, 20)]
            assert store.stats.row_counts()["outbox"] == 40
        store.maintain()
        assert store.stats.row_counts()["outbox"] == 30
        assert store.stats.row_counts()["dead_letters"] == 1
        assert store.counters(NO_BOOT) == {"sent.logs": 9, "rejected.logs": 1}


@contextmanager
def no_room(store: Store, small: Disk) -> Iterator[None]:
    """Somebody else was faster to take what the ballast gave back, and the log is full."""
    os.truncate(store.folder / "reserve", 0)
    small.fill()
    record_until_full(store, 100)
    yield
    small.clear()


@contextmanager
def busy(store: Store) -> Iterator[None]:
    """Another process holds the file meanwhile, so that nothing can be written."""
    with closing(sqlite3.connect(store.folder / "otel-oom.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_it_opens_on_a_full_disk(small: Disk) -> None:
    """An agent that ends on a full disk, whatever way, can begin again, and deliver."""
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
        taken = record_until_full(store)
        queue_all(store)
    small.fill()
    with Store(state) as store:
        assert len(store.next_batch("logs", 10_000, ALL)) == taken
    small.fill()
    subprocess.run([sys.executable, "-c", program, state], check=False, cwd=Path.cwd())
    small.fill()
    with Store(state) as store:
        assert sorted(deliver_all(store)) == uids(0, taken)
        assert store.stats.row_counts()["outbox"] == 0


def test_a_disk_that_was_full_from_the_start_is_told(small: Disk) -> None:
    """Where there is no room for a database at all, that is an error, not an empty file."""
    small.fill()
    with pytest.raises(StoreError, match="can't be"), Store(small.path / "state"):
        pass
