"""One holder's events do not crowd out another's: at the size limit, and in delivery."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace

from otel_oom.model.events import OomKill
from otel_oom.model.loss import DroppedEvents
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg, MemcgUsage, OomControl
from otel_oom.otlp.kill_counts import format_label
from otel_oom.store import (
    OutboxEntry,
    PendingEvent,
    Rejection,
    Store,
    StoreError,
    StoreLimits,
    database_file,
    drops,
    eviction,
    retention,
)
from otel_oom.store.counters import KILLS, KILLS_DROPPED, NO_BOOT
from otel_oom.store.holder import event_holder
from tests.testlib.samples.events import (
    CONTAINER_ID,
    KILL,
    NO_VICTIM,
    PANIC,
    SNAPSHOT,
    sample_kill,
)

T = TypeVar("T")

BOOT = KILL.boot_id
FAR = 1 << 62
ALL = 1 << 40
LIMITS = StoreLimits(16 << 20)
LOUD = "/user.slice/user-1000.slice"
QUIET = "/system.slice/quiet.service"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store of the smallest size, whose hundreds of writes are not synced: nothing crashes."""
    monkeypatch.setattr(database_file, "SYNCED", "PRAGMA synchronous=OFF")
    with Store(tmp_path / "state", LIMITS) as opened:
        yield opened


def kill_in(path: str, number: int, report_bytes: int = 0, stack_bytes: int = 0) -> OomKill:
    """Return a kill in a cgroup, with a report and a stack of these lengths."""
    return replace(
        sample_kill(number, stack=("s" * stack_bytes,)),
        memcg=Memcg(7, path),
        original="r" * report_bytes or None,
    )


def entry(row: PendingEvent) -> OutboxEntry:
    """Encode an event as its report."""
    original = getattr(row.event, "original", None) or "no report"
    counts = {} if row.log_queued else {"kills.sample": 1}
    return OutboxEntry(row.id, row.event.uid, original.encode(), b"span", counts)


def enqueue_all(store: Store) -> list[str]:
    """Move all events to the outbox, and return their uids in this order."""
    uids = []
    while rows := store.pending_events(64, BOOT, FAR):
        store.enqueue([entry(row) for row in rows if row.event.kind == "kill"])
        store.quarantine({row.id: "" for row in rows if row.event.kind != "kill"})
        uids += [row.event.uid for row in rows]
    return uids


def fill(store: Store, kills: list[OomKill]) -> None:
    """Store kills and enqueue them, a few at a time."""
    for number, kill in enumerate(kills):
        assert store.insert(kill, SNAPSHOT)
        if number % 8 == 0:
            enqueue_all(store)
    enqueue_all(store)


def logs(store: Store) -> dict[str, bytes]:
    """Return the logs in the outbox by uid."""
    return {message.uid: message.payload for message in store.next_batch("logs", 10_000, ALL)}


def dropped_events(store: Store) -> list[DroppedEvents]:
    events = (row.event for row in store.pending_events(1000, BOOT, FAR))
    return [event for event in events if isinstance(event, DroppedEvents)]


def maintain(store: Store) -> None:
    store._maintenance_due = 0.0  # noqa: SLF001  now, not in a minute
    store.maintain()


def test_a_loop_of_kills_does_not_push_out_another_holder(store: Store) -> None:
    quiet = [kill_in(QUIET, number, 30_000) for number in range(20)]
    # Each in a cgroup of its own, which the user may create.
    fill(store, quiet + [kill_in(f"{LOUD}/{n}.scope", 100 + n, 0, 50_000) for n in range(130)])
    sent = logs(store)
    assert all(len(sent[kill.uid]) == 30_000 for kill in quiet)
    counts = store.counters(NO_BOOT)
    assert counts["dropped.logs"] == counts["dropped.traces"] == 150 - len(sent) > 0
    assert "dropped.reports" not in counts


def test_a_kill_is_dropped_with_its_end(store: Store) -> None:
    kill = kill_in(LOUD, 1)
    store.insert(kill, SNAPSHOT)
    (row,) = store.pending_events(10, BOOT, FAR)
    # Enough for one step.
    log = bytes(200 << 10)
    store.enqueue([OutboxEntry(row.id, kill.uid, log, b"span", end_log=b"end")])
    for _ in ("copies", "kill"):
        store._database.write(eviction.evict)  # noqa: SLF001  a full store is slow
    assert store.stats.row_counts() == {"events": 0, "outbox": 0, "dead_letters": 0}


def test_reports_are_dropped_before_kills(store: Store) -> None:
    loud = [kill_in(LOUD, number, 50_000) for number in range(100)]
    fill(store, loud)
    sent, counts = logs(store), store.counters(NO_BOOT)
    assert set(sent) == {kill.uid for kill in loud}
    without = [uid for uid, payload in sent.items() if payload == b"no report"]
    assert counts["dropped.reports"] == len(without)
    # The newest ones are left.
    assert [kill.uid for kill in loud[: len(without)]] == without
    assert not {"dropped.logs", "dropped.traces"} & set(counts)
    # Encoded twice, counted once.
    assert counts["kills.sample"] == 100
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database:
        texts = database.execute(
            "SELECT event ->> '$.report_dropped', event ->> '$.tasks' FROM events WHERE uid = ?",
            (without[0],),
        ).fetchall()
    assert texts == [(1, None)]


def test_a_log_that_is_accepted_while_its_report_is_dropped_is_sent_once(store: Store) -> None:
    fill(store, [kill_in(LOUD, number, 50_000) for number in range(10)])
    in_flight = store.next_batch("logs", 4, ALL)
    number = 10
    while store.counters(NO_BOOT).get("dropped.reports", 0) < 2:
        number += 1
        store.insert(kill_in(LOUD, number, 50_000), SNAPSHOT)
    pending = {row.event.uid for row in store.pending_events(1000, BOOT, FAR)}
    assert {message.uid for message in in_flight} & pending
    store.ack(in_flight)
    pending = {row.event.uid for row in store.pending_events(1000, BOOT, FAR)}
    assert not {message.uid for message in in_flight} & pending


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_nobody_loses_anything_within_an_equal_share(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311  a sample
    holders = [f"/system.slice/{name}.service" for name in "abcdefgh"[: chosen.randint(2, 8)]]
    weights = [chosen.random() ** 3 for _ in holders]
    inserted: dict[str, list[OomKill]] = {holder: [] for holder in holders}
    with Store(tmp_path, LIMITS) as store:
        for number in range(400):
            (holder,) = chosen.choices(holders, weights)
            kill = kill_in(holder, number, chosen.choice([0, 30_000]), 25_000)
            inserted[holder].append(kill)
            store.insert(kill, SNAPSHOT)
            if chosen.random() < 0.1:
                enqueue_all(store)
        enqueue_all(store)
        left = logs(store)
        # 7 MiB are for events; a row takes whole pages, and a drop makes space for several.
        share = (6 << 20) // len(holders)
        for kills in inserted.values():
            size = sum(30_000 + 2 * len(kill.original or "") for kill in kills)
            if size < share:
                for kill in kills:
                    assert left[kill.uid] == (kill.original or "no report").encode()
            # The newest ones are left.
            kept = [kill.uid in left for kill in kills]
            assert kept == sorted(kept)
        maintain(store)
        dropped = {event.holder: event for event in dropped_events(store)}
    for holder, kills in inserted.items():
        lost = sum(kill.uid not in left for kill in kills)
        count = dropped[holder].count if holder in dropped else 0
        # The event's own space may take some more.
        assert lost <= count <= lost + 8


def test_an_event_reports_what_was_dropped_of_whom(store: Store) -> None:
    container = Container("0123456789abcdef" * 4, name="loud")
    snapshot = replace(SNAPSHOT, containers=EventContainers(container))
    store.insert(kill_in(QUIET, 0, 30_000), SNAPSHOT)
    for number in range(1, 140):
        store.insert(kill_in(LOUD, number, 2000, 60_000), snapshot)
    maintain(store)
    counts = store.counters(NO_BOOT)
    (dropped,) = dropped_events(store)
    assert (dropped.holder, dropped.count) == (LOUD, counts["dropped.logs"])
    assert dropped.report_count == counts["dropped.reports"] > dropped.count > 0
    rows = store.pending_events(1000, BOOT, FAR)
    (row,) = (row for row in rows if row.event == dropped)
    assert row.snapshot.containers == EventContainers(container)


def test_reports_of_drops_are_few(store: Store) -> None:
    def drop(numbers: range) -> None:
        def add(db: sqlite3.Connection) -> None:
            for number in numbers:
                drops.add(db, f"/{number}", "events")

        store._database.write(add)  # noqa: SLF001  a thousand evictions are slow

    drop(range(1000))
    maintain(store)
    first = dropped_events(store)
    assert len(first) == 65
    assert sum(event.count for event in first) == 1000
    assert max(first, key=lambda event: event.count).holder == ""
    for _ in range(3):
        drop(range(10))
        maintain(store)
    assert dropped_events(store) == first
    for row in store.pending_events(1000, BOOT, FAR):
        store.enqueue([OutboxEntry(row.id, row.event.uid, b"log", None)])
    maintain(store)
    assert dropped_events(store) == []
    store.ack(store.next_batch("logs", 1000, ALL))
    maintain(store)
    assert [event.count for event in dropped_events(store)] == [3] * 10


def test_each_kill_is_counted_however_it_is_dropped(store: Store) -> None:
    for number in range(260):
        assert store.insert(kill_in(LOUD, number, 0, 60_000), SNAPSHOT)
        if number == 60:
            enqueue_all(store)
    dropped, counted = (store.counters(NO_BOOT)[n] for n in (KILLS_DROPPED, "kills.sample"))
    assert counted == 61
    assert dropped == store.counters(NO_BOOT)["dropped.logs"] - 61 > 0
    assert KILLS + format_label({"oom.outcome": "dropped"}) == KILLS_DROPPED


def test_history_of_a_quiet_holder_stays(store: Store) -> None:
    quiet = [kill_in(QUIET, number, 0, 30_000) for number in range(10)]
    loud = [kill_in(LOUD, number, 0, 60_000) for number in range(10, 150)]
    for kills in (quiet, *(loud[first : first + 20] for first in range(0, 140, 20))):
        fill(store, kills)
        for name in ("logs", "traces"):
            store.ack(store.next_batch(name, 1000, ALL))
        maintain(store)
    assert "dropped.logs" not in store.counters(NO_BOOT)
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database:
        left = dict(database.execute("SELECT holder, count(*) FROM events GROUP BY 1").fetchall())
    assert left[QUIET] == 10
    assert 0 < left[LOUD] < 140


def test_history_is_not_searched_for_again_without_a_delivery(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one, what was delivered is deleted without a search among all others."""
    searched: list[int] = []
    deleted: list[int] = []
    prune, prune_delivered = retention.prune_history, retention.prune_delivered

    def counted(db: sqlite3.Connection, boot_id: str) -> int:
        searched.append(prune(db, boot_id))
        return searched[-1]

    def counted_delivered(db: sqlite3.Connection, boot_id: str, uids: set[str]) -> int:
        deleted.append(prune_delivered(db, boot_id, uids))
        return deleted[-1]

    monkeypatch.setattr(retention, "prune_history", counted)
    monkeypatch.setattr(retention, "prune_delivered", counted_delivered)
    fill(store, [kill_in(LOUD, number, 0, 60_000) for number in range(130)])
    assert store.counters(NO_BOOT)["dropped.logs"] > 0
    assert searched == [0]
    assert not any(deleted)
    for name in ("logs", "traces"):
        store.ack(store.next_batch(name, 1000, ALL))
    fill(store, [kill_in(LOUD, number, 0, 60_000) for number in range(200, 330)])
    assert searched == [0]
    assert sum(deleted) > 0


def test_dead_letters_of_a_quiet_holder_stay(store: Store) -> None:
    quiet = kill_in(QUIET, 0, 30_000)
    fill(store, [quiet] + [kill_in(LOUD, number, 30_000) for number in range(1, 66)])
    store.reject(store.next_batch("logs", 1000, ALL), Rejection("http://host", "no"))
    for number in range(100, 400):
        store.insert(kill_in(LOUD, number, 0, 60_000), SNAPSHOT)
        if "dropped.dead_letters" in store.counters(NO_BOOT):
            break
    assert store.counters(NO_BOOT)["dropped.dead_letters"] == 64
    assert quiet.uid in {letter.uid for letter in store.dead_letters.page(0, 100)}


def insert_messages(store: Store, counts: dict[str, int]) -> None:
    """Add messages of holders to the outbox at once."""
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database, database:
        database.executemany(
            "INSERT INTO outbox (uid, signal, payload, queued_unix_ns, holder)"
            " VALUES (?, 'logs', x'00', 0, ?)",
            [(f"{holder}-{n}", holder) for holder, count in counts.items() for n in range(count)],
        )


def test_a_backlog_does_not_delay_another_holder(store: Store) -> None:
    insert_messages(store, {LOUD: 4000, QUIET: 1})
    batch = store.next_batch("logs", 512, 2 << 20)
    assert len(batch) == 512
    assert f"{QUIET}-0" in [message.uid for message in batch[:2]]


def test_all_holders_take_turns_in_small_batches(store: Store) -> None:
    insert_messages(store, {f"/{number:03}": 100 for number in range(100)})
    uids = []
    for _ in range(10):
        batch = store.next_batch("logs", 10, ALL)
        # A retry has the same messages.
        assert batch == store.next_batch("logs", 10, ALL)
        assert batch[:5] == store.next_batch("logs", 5, ALL)
        uids += [message.uid for message in batch]
        store.ack(batch)
    assert sorted(uids) == [f"/{number:03}-0" for number in range(100)]


def test_a_backlog_of_pending_events_does_not_delay_another_holder(store: Store) -> None:
    for number in range(40):
        store.insert(kill_in(LOUD, number), SNAPSHOT)
    quiet = kill_in(QUIET, 40)
    store.insert(quiet, SNAPSHOT)
    first = store.pending_events(4, BOOT, FAR)
    assert quiet.uid in [row.event.uid for row in first]
    uids = enqueue_all(store)
    assert len(uids) == len(set(uids)) == 41
    loud = [uid for uid in uids if uid != quiet.uid]
    assert loud == [kill_in(LOUD, number).uid for number in range(40)]


def test_all_holders_take_turns_however_few_rows_are_encoded(store: Store) -> None:
    holders = [f"/{number:02}" for number in range(16)]
    for number in range(64):
        store.insert(kill_in(holders[number % 16], number), SNAPSHOT)
    uids = []
    for _ in range(8):
        # As many as are read: the last one is of the same holder each time.
        rows = store.pending_events(16, BOOT, FAR)
        store.enqueue([entry(row) for row in rows[:2]])
        uids += [row.event.uid for row in rows[:2]]
    assert sorted(uids) == sorted(kill_in(holders[n], n).uid for n in range(16))


_CRASH = """
import os, signal, sys
from pathlib import Path
from otel_oom.store import Store, eviction
from tests.unit.store.test_fairness import LIMITS, LOUD, SNAPSHOT, kill_in

add, crash_at = eviction.counters.add, int(sys.argv[2])
def add_or_crash(*args):
    global crash_at
    add(*args)
    crash_at -= any(name.startswith("dropped") for name in args[2])
    if not crash_at:
        os.kill(os.getpid(), signal.SIGKILL)
eviction.counters.add = add_or_crash
with Store(Path(sys.argv[1]), LIMITS) as store:
    for number in range(1000):
        store.insert(kill_in(LOUD, number, 2000, 60_000), SNAPSHOT)
        print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("crash_at", [1, 2, 40])
def test_a_crash_while_dropping_loses_no_count(tmp_path: Path, crash_at: int) -> None:
    process = subprocess.run(
        [sys.executable, "-c", _CRASH, tmp_path, str(crash_at)],
        stdout=subprocess.PIPE,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.returncode == -signal.SIGKILL
    stored = len(process.stdout.splitlines())
    with Store(tmp_path, LIMITS) as store:
        counts = store.counters(NO_BOOT)
        left = store.stats.row_counts()["events"]
        maintain(store)
        events = dropped_events(store)
        assert left + counts.get("dropped.logs", 0) == stored
        assert sum(event.count for event in events) == counts.get("dropped.logs", 0)
        assert sum(event.report_count for event in events) == counts.get("dropped.reports", 0)


def test_the_holder_of_an_event() -> None:
    assert event_holder(KILL) == f"/docker/{CONTAINER_ID}"
    assert event_holder(NO_VICTIM) == "/docker"
    assert event_holder(PANIC) == "panic"
    assert event_holder(kill_in("/a\ud800/b", 0)) == "/a?"


def test_usage_of_no_rows_prevents_no_drop(store: Store) -> None:
    """A damaged file can have it."""
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database, database:
        database.executemany(
            "INSERT INTO holder_usage (class, holder, bytes) VALUES (?, '/gone', ?)",
            [("events", 1 << 50), ("dead_letters", 1 << 50)],
        )
    for number in range(140):
        assert store.insert(kill_in(LOUD, number, 0, 60_000), SNAPSHOT)
    assert store.counters(NO_BOOT)["dropped.logs"] > 0


def test_usage_is_that_of_the_rows(store: Store) -> None:
    fill(store, [kill_in(LOUD, number, 5000, 5000) for number in range(30)])
    store.ack(store.next_batch("logs", 20, ALL))
    store.reject(store.next_batch("logs", 10, ALL), Rejection("http://host", "no"))
    store.dead_letters.resend([letter.id for letter in store.dead_letters.page(0, 5)])
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database:
        usage = database.execute(
            "SELECT class, holder, bytes FROM holder_usage ORDER BY class DESC"
        ).fetchall()
        (rows,) = database.execute(
            "SELECT (SELECT sum(length(event) + length(snapshot)) FROM events)"
            " + (SELECT sum(length(payload)) FROM outbox),"
            " (SELECT sum(length(payload)) FROM dead_letters)"
        ).fetchall()
    assert usage == [("events", LOUD, rows[0]), ("dead_letters", LOUD, rows[1])]


def test_the_work_for_a_kill_does_not_grow_with_delivered_ones(store: Store) -> None:
    """Counted in steps of SQLite's virtual machine: a loop of kills fills the history."""
    steps: Counter[str] = Counter()

    def count(name: str, work: Callable[[], T]) -> T:
        def step() -> int:
            steps[name] += 1
            return 0

        store._database.read(lambda db: db.set_progress_handler(step, 1))  # noqa: SLF001  a test's own
        done = work()
        store._database.read(lambda db: db.set_progress_handler(None, 1))  # noqa: SLF001  likewise
        return done

    def deliver(numbers: range) -> Counter[str]:
        steps.clear()
        for number in numbers:
            kill = kill_in(LOUD, number)
            count("insert", partial(store.insert, kill, SNAPSHOT))
        count("oldest", lambda: store.oldest_pending_boottime_ns(BOOT))
        rows = count("pending", lambda: store.pending_events(len(numbers), BOOT, FAR))
        entries = [OutboxEntry(row.id, row.event.uid, b"log", b"span") for row in rows]
        count("enqueue", lambda: store.enqueue(entries))
        for name in ("logs", "traces"):
            batch = count("batch", partial(store.next_batch, name, len(numbers), ALL))
            count("ack", partial(store.ack, batch))
        assert store.stats.row_counts()["outbox"] == 0
        return steps.copy()

    first = deliver(range(10))
    deliver(range(10, 310))
    grown = {name: n for name, n in deliver(range(310, 320)).items() if n > 1.5 * first[name]}
    assert not grown, (grown, first)


def near_limit(number: int, size: int) -> NearLimit:
    """Return an event of about this size in bytes."""
    memcg = Memcg(7, f"{QUIET}/{number}/{'x' * size}")
    usage = MemcgUsage(100, 95, None, None)
    return NearLimit(
        boot_id=BOOT,
        boottime_ns=number,
        time_unix_ns=KILL.time_unix_ns,
        trigger=None,
        trigger_memcg=memcg,
        decision=OomControl("usage"),
        memcg=memcg,
        memcg_usage=usage,
        working_set=95,
        threshold_percent=90,
    )


def kinds(store: Store) -> Counter[str]:
    return Counter(row.event.kind for row in store.pending_events(10_000, BOOT, FAR))


def test_cgroups_near_their_limit_cost_no_kill(store: Store) -> None:
    """Kills push out all those events before the first kill; those events push out none."""
    assert event_holder(near_limit(0, 0)) == "near_limit"
    kills = [kill_in(LOUD, number, 0, 60_000) for number in range(30)]
    for kill in kills:
        assert store.insert(kill, SNAPSHOT)
    number = 0
    with suppress(StoreError):
        while number < 1000:
            assert store.insert(near_limit(number, 10_000), SNAPSHOT)
            number += 1
    with pytest.raises(StoreError, match="size limit"):
        store.insert(near_limit(number, 10_000), SNAPSHOT)
    before = kinds(store)
    assert before["kill"] == 30
    assert before["near_limit"] > 100
    for number in range(30, 40):
        assert store.insert(kill_in(LOUD, number, 0, 60_000), SNAPSHOT)
    after = kinds(store)
    assert after["kill"] == 40
    assert 0 < after["near_limit"] < before["near_limit"]
    while kinds(store)["near_limit"]:
        number += 1
        assert number < 400
        assert store.insert(kill_in(LOUD, number, 0, 60_000), SNAPSHOT)
    assert kinds(store)["kill"] == number + 1
    maintain(store)
    (dropped,) = dropped_events(store)
    assert (dropped.holder, dropped.count) == ("", before["near_limit"])


def test_history_of_cgroups_near_their_limit_goes_first(store: Store) -> None:
    fill(store, [kill_in(LOUD, number, 0, 60_000) for number in range(20)])
    event = near_limit(1, 10)
    assert store.insert(event, SNAPSHOT)
    enqueue_all(store)
    (row,) = (row for row in store.history.page_before(None) if row.uid == event.uid)
    store.enqueue([OutboxEntry(row.id, event.uid, b"log", None)])
    for name in ("logs", "traces"):
        store.ack(store.next_batch(name, 1000, ALL))
    with closing(sqlite3.connect(store.path / "otel-oom.db")) as database, database:
        query = "SELECT kind, count(*) FROM events WHERE NOT pruned GROUP BY 1"
        database.execute("UPDATE events SET undecodable_reason = NULL")
        assert dict(database.execute(query).fetchall()) == {"kill": 20, "near_limit": 1}
        assert retention.prune_history(database, BOOT)
        assert dict(database.execute(query).fetchall()) == {"kill": 20}
