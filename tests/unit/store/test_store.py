"""The store: what is in it stays, moves in one step, and belongs to one agent."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.model.snapshot import Snapshot
from otel_oom.store import OutboxEntry, PendingEvent, Rejection, Store, StoreError
from otel_oom.store.counters import NO_BOOT
from otel_oom.store.state_dir import StateFolder
from tests.testlib.require import require
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


def queue(store: Store, row: PendingEvent, log: bytes | None, span: bytes | None) -> None:
    """Move one row on."""
    store.enqueue([OutboxEntry(row.id, row.event.uid, log, span)])


def test_a_kill_is_read_back_as_it_was(store: Store) -> None:
    """The journal gives back the kill, what was witnessed, and the exit."""
    assert store.insert(KILL, SNAPSHOT)
    store.add_exit(KILL.boot_id, EXIT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert (row.event, row.snapshot, row.exit) == (KILL, SNAPSHOT, EXIT)
    assert not row.log_queued
    assert not row.span_queued


def test_a_kill_read_twice_is_one(store: Store) -> None:
    """The same event, though its wall clock was read anew, is not recorded again."""
    assert store.insert(KILL, SNAPSHOT)
    assert not store.insert(replace(KILL, time_unix_ns=1), SNAPSHOT)
    assert store.stats.row_counts()["events"] == 1


def test_a_process_dies_once(store: Store) -> None:
    """A process that is marked again later, under another uid, is the kill that it was."""
    assert store.insert(KILL, SNAPSHOT)
    again = replace(KILL, boottime_ns=KILL.boottime_ns + 10**9)
    assert again.uid != KILL.uid
    assert not store.insert(again, SNAPSHOT)


def test_a_decoded_event_is_not_decoded_again(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    store.insert(sample_kill(1), SNAPSHOT)
    rows = store.pending_events(10, BOOT, NEVER)
    first, second = store.pending_events(10, BOOT, NEVER, {KILL.uid: rows[0]})
    assert [first, second] == rows
    assert first.event is rows[0].event
    assert first.snapshot is rows[0].snapshot
    assert second.event is not rows[1].event


def test_an_unfinished_kill_waits_for_what_else_is_seen(store: Store) -> None:
    """It is on the disk at once, not told before it is finished, and holds up no other."""
    early = replace(KILL, tasks=None, decision=None)
    assert store.insert(early, replace(SNAPSHOT, vm_sysctl={}), incomplete=True)
    store.insert(sample_kill(1), SNAPSHOT)
    assert [row.event for row in store.pending_events(10, BOOT, NEVER)] == [sample_kill(1)]
    store.complete(KILL, SNAPSHOT)
    first, _ = store.pending_events(10, BOOT, NEVER)
    assert (first.event, first.snapshot) == (KILL, SNAPSHOT)


def test_an_unfinished_kill_is_told_when_nothing_else_was_seen(store: Store) -> None:
    """Told again meanwhile it is still the same one, and at the end it is told as it was."""
    store.insert(KILL, SNAPSHOT, incomplete=True)
    assert not store.insert(KILL, SNAPSHOT, incomplete=True)
    assert store.pending_events(10, BOOT, NEVER) == []
    store.complete(KILL, None)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.snapshot == SNAPSHOT


def test_an_unfinished_kill_is_told_by_the_next_life(tmp_path: Path) -> None:
    """What an agent that was killed had not finished is told by the next one as it is."""
    with Store(tmp_path) as store:
        store.insert(KILL, SNAPSHOT, incomplete=True)
    with Store(tmp_path) as store:
        (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.event == KILL


def test_an_exit_of_another_process_with_that_pid_is_not_the_victims(store: Store) -> None:
    """Pid, start and boot together name a process."""
    store.insert(KILL, SNAPSHOT)
    assert not store.add_exit(KILL.boot_id, replace(EXIT, start_boottime_ns=1))
    assert not store.add_exit(KILL.boot_id, replace(EXIT, start_boottime_ns=None))
    assert not store.add_exit("another boot", EXIT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.exit is None


def test_what_comes_without_a_start_is_the_last_victims(store: Store) -> None:
    """Of victims that nobody told the start of, those before the last one of an id are gone."""
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


def test_a_start_that_is_known_at_the_end_alone_does(store: Store) -> None:
    """It is the end of a victim without a start, unless there is one with that start."""
    store.insert(sample_kill(1, victim=replace(KILL.victim, start_boottime_ns=None)), SNAPSHOT)
    store.insert(KILL, SNAPSHOT)
    later = replace(EXIT, start_boottime_ns=(EXIT.start_boottime_ns or 0) + 1)
    assert store.add_exit(BOOT, EXIT)
    assert store.add_exit(BOOT, later)
    unknown, known = store.pending_events(10, BOOT, NEVER)
    assert (unknown.exit, known.exit) == (later, EXIT)


def test_the_log_goes_first_and_the_span_with_the_exit(store: Store) -> None:
    """A kill whose log is queued comes again when its span can be told, and then no more."""
    store.insert(KILL, SNAPSHOT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    queue(store, row, b"log", None)
    assert store.pending_events(10, BOOT, NEVER) == []
    assert store.oldest_pending_boottime_ns(BOOT) == KILL.boottime_ns
    store.add_exit(KILL.boot_id, EXIT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.log_queued
    queue(store, row, None, b"span")
    assert store.pending_events(10, BOOT, FAR) == []
    assert store.oldest_pending_boottime_ns(BOOT) is None
    assert [m.payload for m in store.next_batch("logs", 10, 1000)] == [b"log"]
    assert [m.payload for m in store.next_batch("traces", 10, 1000)] == [b"span"]


def test_a_span_does_not_wait_for_ever(store: Store) -> None:
    """After the deadline a kill comes again without an exit."""
    store.insert(KILL, SNAPSHOT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    queue(store, row, b"log", None)
    assert len(store.pending_events(10, BOOT, FAR)) == 1


def test_a_span_of_another_boot_does_not_wait(store: Store) -> None:
    """Nobody of an earlier boot exits any more, whatever that boot's clock said."""
    store.insert(KILL, SNAPSHOT)
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert not row.exit_overdue
    queue(store, row, b"log", None)
    (row,) = store.pending_events(10, "the next boot", NEVER)
    assert row.exit_overdue


def test_what_is_not_a_kill_has_no_span(store: Store) -> None:
    """A want of memory without a victim, and a victim that was skipped, owe a log alone."""
    skipped = sample_kill(1, skipped=True)
    for event in (NO_VICTIM, skipped):
        assert store.insert(event, SNAPSHOT)
    rows = store.pending_events(10, BOOT, NEVER)
    assert [row.event for row in rows] == [NO_VICTIM, skipped]
    assert all(row.span_queued for row in rows)


def test_a_panic_is_told_once(store: Store) -> None:
    """It owes a log alone; found again at a later start, it is the one that it was."""
    assert store.insert(PANIC, Snapshot(process_found=False))
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert (row.event, row.span_queued) == (PANIC, True)
    queue(store, row, b"log", None)
    assert not store.insert(
        replace(PANIC, boot_id="", time_unix_ns=1), Snapshot(process_found=False)
    )
    assert store.pending_events(10, BOOT, FAR) == []


def test_a_process_that_was_skipped_can_still_be_killed(store: Store) -> None:
    """Being chosen in vain is not the death of a process."""
    assert store.insert(sample_kill(skipped=True), SNAPSHOT)
    assert store.insert(sample_kill(boottime_ns=KILL.boottime_ns + 1), SNAPSHOT)


def test_the_reapers_steps_stay_with_their_victim(store: Store) -> None:
    """They come back in their order, bounded in number; those of another process are none."""
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


def test_fields_of_a_later_version_are_left_out(store: Store) -> None:
    """After a downgrade what a newer agent wrote is still told."""
    store.insert(KILL, SNAPSHOT)
    with closing(sqlite3.connect(store.folder / "otel-oom.db")) as newer, newer:
        newer.execute(
            "UPDATE events SET crc32 = NULL, event = json_set(event, '$.new', 1, '$.victim.new', 2)"
        )
    (row,) = store.pending_events(10, BOOT, NEVER)
    assert row.event == KILL


def test_kills_that_wait_for_their_exit_hold_up_no_other(store: Store) -> None:
    """A new kill's log is not behind a hundred slow deaths."""
    for number in range(100):
        store.insert(sample_kill(number), SNAPSHOT)
    for row in store.pending_events(100, BOOT, NEVER):
        queue(store, row, b"log", None)
    store.insert(sample_kill(1000), SNAPSHOT)
    assert [row.event for row in store.pending_events(1, BOOT, NEVER)] == [sample_kill(1000)]


def test_messages_come_oldest_first_and_bounded(store: Store) -> None:
    """A batch has at most so many messages and bytes, but never none."""
    for number in range(5):
        store.insert(sample_kill(number), SNAPSHOT)
    for row in store.pending_events(10, BOOT, NEVER):
        queue(store, row, b"%d" % row.id * 100, None)
    assert [m.payload[:1] for m in store.next_batch("logs", 3, 10**6)] == [b"1", b"2", b"3"]
    assert [m.payload[:1] for m in store.next_batch("logs", 10, 250)] == [b"1", b"2"]
    assert len(store.next_batch("logs", 10, 1)) == 1


def test_delivered_messages_are_gone_and_refused_ones_kept_apart(store: Store) -> None:
    """What the backend took leaves the disk; what it will never take stays, with its reason."""
    for number in range(3):
        store.insert(sample_kill(number), SNAPSHOT)
    for row in store.pending_events(10, BOOT, NEVER):
        queue(store, row, b"log", None)
    first, second, third = store.next_batch("logs", 10, 1000)
    store.ack([first])
    store.reject([second], Rejection("http://host", "HTTP 400: no"))
    assert store.next_batch("logs", 10, 1000) == [third]
    assert store.stats.row_counts() == {"events": 3, "outbox": 1, "dead_letters": 1}


def test_both_signals_are_let_go_of_at_once(store: Store) -> None:
    """Two threads that each deliver their signal do not get into each other's way."""
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


def test_everything_outlives_the_process(tmp_path: Path) -> None:
    """A process killed right after a record returned has lost nothing."""
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


def test_every_commit_is_synced(store: Store, tmp_path: Path) -> None:
    """The log of the database is synced at every commit (WAL, FULL)."""

    def setting(name: str) -> object:
        # The setting is the connection's: no other can read it.
        return store._database.read(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])  # noqa: SLF001

    assert setting("synchronous") == 2
    assert setting("journal_mode") == "wal"
    assert (tmp_path / "state" / "otel-oom.db-wal").exists()


def test_a_second_agent_is_told_so(store: Store) -> None:
    """Two agents on one folder would take each other's kills: the second gets a clear error."""
    with pytest.raises(StoreError, match="Another otel-oom"), Store(store.folder):
        pass


def test_a_folder_is_free_when_its_agent_has_ended(tmp_path: Path) -> None:
    """Though a process that it was just starting still has a copy of every descriptor."""
    ended = StateFolder(tmp_path)
    ended.lock()
    assert ended._lock is not None  # noqa: SLF001  its copy stands for that process
    copy = os.dup(ended._lock)  # noqa: SLF001
    ended.release()
    StateFolder(tmp_path).lock()
    os.close(copy)


def test_nobody_else_may_read_it(store: Store) -> None:
    """Names and command lines of processes are nobody else's business."""
    store.insert(KILL, SNAPSHOT)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    for path in store.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("name", ["otel-oom.db", "otel-oom.db-wal", "lock", "reserve"])
def test_symbolic_links_are_not_followed(tmp_path: Path, name: str) -> None:
    """A link in the place of one of our files leads nowhere."""
    state = tmp_path / "state"
    state.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine", encoding="ascii")
    (state / name).symlink_to(elsewhere)
    with suppress(StoreError), Store(state) as store:
        store.insert(KILL, SNAPSHOT)
    assert elsewhere.read_text(encoding="ascii") == "mine"


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """Whoever can change the link could read, or change, what is told: that is an error."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to("elsewhere")
    tmp_path.chmod(0o777)
    with pytest.raises(StoreError, match="symbolic link"), Store(tmp_path / "state"):
        pass
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.root
def test_a_link_that_is_roots_alone_is_followed(tmp_path: Path) -> None:
    """As systemd.exec(5) has it: with DynamicUser= the state folder is a link of root's."""
    require(os.geteuid() == 0, "links of root's")
    (tmp_path / "private").mkdir()
    (tmp_path / "state").symlink_to("private")
    with Store(tmp_path / "state") as store:
        store.insert(KILL, SNAPSHOT)
    assert (tmp_path / "private/otel-oom.db").is_file()


@pytest.mark.parametrize("whose", ["folder", "otel-oom.db", "lock"])
@pytest.mark.root
def test_what_is_somebody_elses_is_not_used(tmp_path: Path, whose: str) -> None:
    """A folder or a file of another user is refused, with that user's id, and stays as it is."""
    require(os.geteuid() == 0, "to give a file away needs root")
    state = tmp_path / "state"
    with Store(state):
        pass
    theirs = state if whose == "folder" else state / whose
    os.chown(theirs, 12345, -1)
    with pytest.raises(StoreError, match="is owned by uid 12345"), Store(state):
        pass
    assert theirs.stat().st_uid == 12345


def test_what_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    """A folder and a file that were made with wider rights get the narrow ones."""
    with Store(tmp_path / "state"):
        pass
    (tmp_path / "state").chmod(0o755)
    (tmp_path / "state" / "otel-oom.db").chmod(0o644)
    with Store(tmp_path / "state") as store:
        test_nobody_else_may_read_it(store)


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    """A start that failed does not stand in the way of the next."""
    (tmp_path / "otel-oom.db").mkdir()
    for _ in range(2):
        with pytest.raises(StoreError, match="can't be opened"), Store(tmp_path):
            pass
    (tmp_path / "otel-oom.db").rmdir()
    with Store(tmp_path) as store:
        assert store.stats.row_counts()["events"] == 0
