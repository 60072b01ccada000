"""The work of the store on a kill and in its upkeep, by the number of stored events."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from otel_oom.linux import clock
from otel_oom.store import OutboxEntry, Store, StoreLimits, retention
from otel_oom.store.counters import NO_BOOT
from otel_oom.store.database_file import NAME, connect
from tests.testlib.samples.events import KILL, SNAPSHOT, sample_kill

FEW, MANY = 200, 4000
EARLIER = "00000000-0000-4000-8000-000000000001"
_STEPS = 50
"""Instructions of SQLite's virtual machine that are counted as one."""


def fill(path: Path, count: int, *, undelivered: int = 0) -> None:
    """Add kills of an earlier boot and of this one; so many of the oldest are in the outbox."""
    with connect(path / NAME) as database:
        database.execute(
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)"
            " INSERT INTO events (uid, boot_id, kind, tgid, start_boottime_ns, boottime_ns,"
            " stored_unix_ns, log_queued, span_queued, event, snapshot)"
            " SELECT 'uid-' || n, iif(n * 2 > ?1, ?2, ?3), 'kill', n, n, n, n, 1, 1, '{}', '{}'"
            " FROM number",
            (count, clock.boot_id(), EARLIER),
        )
        database.execute(
            "INSERT INTO outbox (uid, signal, queued_unix_ns, payload)"
            " SELECT uid, 'logs', 0, x'00' FROM events ORDER BY id LIMIT ?",
            (undelivered,),
        )
    database.close()


def count_steps(monkeypatch: pytest.MonkeyPatch, store: Store, work: Callable[[], object]) -> int:
    """Return the number of instructions that SQLite runs for ``work``."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def watched(_: object, run: Callable[[sqlite3.Connection], object]) -> object:
        with connect(store.path / NAME) as database:
            database.set_progress_handler(count, _STEPS)
            result = run(database)
        database.close()
        return result

    with monkeypatch.context() as patch:
        patch.setattr("otel_oom.store.database.Database.read", watched)
        work()
    return steps


@pytest.fixture(params=["newest kills of the boot", "kills of a pid", "page", "newest kill"])
def query(request: pytest.FixtureRequest) -> Callable[[Store], object]:
    """A query of the store."""
    boot_id = clock.boot_id()
    queries: dict[str, Callable[[Store], object]] = {
        "newest kills of the boot": lambda store: store.tally.stored_kills(boot_id, 16),
        "kills of a pid": lambda store: store.history.find_by_pid(1),
        "page": lambda store: store.history.page_before(None),
        "newest kill": lambda store: store.history.find_newest_kill(),
    }
    return queries[request.param]


def test_a_query_does_not_take_longer_among_many_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: Callable[[Store], object]
) -> None:
    """The instructions of SQLite are counted, which no other load of the machine changes."""
    steps = []
    for count in (FEW, MANY):
        with Store(tmp_path / str(count)) as store:
            fill(store.path, count)
            assert query(store)
            steps.append(count_steps(monkeypatch, store, partial(query, store)))
    few, many = steps
    assert many <= 2 * few + 4, steps


@pytest.mark.parametrize("count", [FEW, MANY])
def test_the_newest_kills_of_a_boot_are_the_last_ones(tmp_path: Path, count: int) -> None:
    """Whether the boot has fewer than wanted or more, they come in the same order."""
    with Store(tmp_path) as store:
        fill(store.path, count)
        kills = store.tally.stored_kills(clock.boot_id(), 500)
    newest = range(count, count // 2, -1)[:500]
    assert [kill.tgid for kill in kills] == [*newest]


def test_upkeep_passes_few_undelivered_events_at_once(tmp_path: Path) -> None:
    """A kill waits for one step at most. History behind them is still deleted."""
    with Store(tmp_path) as store:
        fill(store.path, MANY, undelivered=MANY - 10)
    steps = []
    position: retention.Position | None = retention.START
    with connect(tmp_path / NAME) as database:
        while position:
            pruned, position = retention.prune_old_history(database, "other boot", 0, position)
            steps.append(pruned)
        left = database.execute("SELECT count(*) FROM events").fetchone()[0]
    database.close()
    assert left == MANY - 10
    assert steps[-1] == 10
    assert set(steps[:-1]) == {0}
    assert len(steps) >= MANY / 512


def test_a_delivery_is_not_searched_for_among_undelivered_events(tmp_path: Path) -> None:
    """At the size limit, a kill waits until what was delivered is deleted."""
    steps = []
    for count in (FEW, MANY):
        with Store(tmp_path / str(count)) as store:
            fill(store.path, count, undelivered=count - 1)
        with connect(tmp_path / str(count) / NAME) as database:
            runs: list[None] = []
            database.set_progress_handler(partial(runs.append, None), _STEPS)
            uids = {f"uid-{count}", "uid-1", "no event"}
            assert retention.prune_delivered(database, "other boot", uids) == 1
            steps.append(len(runs))
        database.close()
    few, many = steps
    assert many <= 2 * few + 4, steps


def test_without_a_search_the_same_history_is_deleted(tmp_path: Path) -> None:
    """A store at its limit that delivers one kill loses that one, and no undelivered one."""
    with Store(tmp_path, StoreLimits(16 << 20)) as store:
        number = 0
        while "dropped.logs" not in store.counters(NO_BOOT):
            number += 1
            store.insert(sample_kill(number, stack=("x" * 60_000,)), SNAPSHOT)
            rows = store.pending_events(16, KILL.boot_id, 1 << 62)
            store.enqueue([OutboxEntry(row.id, row.event.uid, b"m", b"m") for row in rows])
        dropped = store.counters(NO_BOOT)["dropped.logs"]
        (log,) = store.next_batch("logs", 1, 1 << 20)
        spans = store.next_batch("traces", 99, 1 << 20)
        for messages in ([log], [span for span in spans if span.uid == log.uid]):
            store.ack(messages)
        for later in range(1, 9):
            assert store.counters(NO_BOOT)["dropped.logs"] == dropped
            store.insert(sample_kill(number + later, stack=("x" * 60_000,)), SNAPSHOT)
            if not store.history.find_by_uid(log.uid):
                break
        assert store.counters(NO_BOOT)["dropped.logs"] == dropped
        assert later < 8
