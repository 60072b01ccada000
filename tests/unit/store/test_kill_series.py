"""The limit of the series of ``oom.kills``: who has a part of it, and that no kill is lost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from otel_oom.store import OutboxEntry, counters, kill_series
from otel_oom.store.counters import EXPORTED, KILLS, LAST_KILL, NO_BOOT
from otel_oom.store.schema import migrate
from otel_oom.store.types import KillCount

LIMIT = 100
NOW = time.time_ns()
DAY_NS = 86_400 * 10**9
OVERFLOW = "overflow"


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        yield connection


def count(db: sqlite3.Connection, label: str, holder: str, unix_ns: int | None = NOW) -> None:
    """Count one more kill of ``label``."""
    kills = KillCount(label, OVERFLOW, last_unix_ns=unix_ns)
    entry = OutboxEntry(1, "uid", b"log", None, kills=kills)
    kill_series.count(db, entry, holder, LIMIT)


def read_values(db: sqlite3.Connection, prefix: str = KILLS) -> dict[str, int]:
    """Return the counters that begin with ``prefix``, without it."""
    values = counters.by_boot(db, NO_BOOT).items()
    return {name.removeprefix(prefix): n for name, n in values if name.startswith(prefix)}


def test_beyond_the_limit_kills_count_in_the_overflow_series(db: sqlite3.Connection) -> None:
    for _ in range(2):
        for number in range(5 * LIMIT):
            count(db, f"service {number}", f"/docker/{number}")
    values = read_values(db)
    assert len(values) == LIMIT + 1
    assert values.pop(OVERFLOW) == 2 * 4 * LIMIT
    assert set(values.values()) == {2}


def test_one_holder_leaves_a_share_to_each_other(db: sqlite3.Connection) -> None:
    """It may make as many names as it likes, before and after the others."""
    for number in range(10 * LIMIT):
        count(db, f"hostile {number}", "/docker/hostile")
    for number in range(LIMIT // 4):
        count(db, f"quiet {number}", f"/docker/{number}")
        count(db, f"hostile again {number}", "/docker/hostile")
    names = read_values(db).keys()
    assert sum(name.startswith("hostile") for name in names) == LIMIT // 2
    assert {f"quiet {number}" for number in range(LIMIT // 4)} <= names


def test_idle_series_make_space_and_their_kills_still_count(db: sqlite3.Connection) -> None:
    for number in range(LIMIT):
        count(db, f"idle {number}", f"/docker/{number}", NOW - 32 * DAY_NS - number)
    count(db, "idle 7", "/docker/7", NOW - 29 * DAY_NS)
    values = {
        KILLS + OVERFLOW: 1,
        LAST_KILL + OVERFLOW: NOW - 60 * DAY_NS,
        f"{EXPORTED}{KILLS}idle 3": 1,
    }
    counters.set_values(db, NO_BOOT, values)
    total = sum(read_values(db).values())
    count(db, "new", "/docker/new")
    values, last = read_values(db), read_values(db, LAST_KILL)
    assert sum(values.values()) == total + 1
    assert values == {"new": 1, "idle 7": 2, OVERFLOW: LIMIT}
    assert last == {"new": NOW, "idle 7": NOW - 29 * DAY_NS, OVERFLOW: NOW - 32 * DAY_NS}
    assert read_values(db, EXPORTED + KILLS) == {OVERFLOW: 1}


def test_fresh_series_make_no_space(db: sqlite3.Connection) -> None:
    for number in range(LIMIT):
        count(db, f"service {number}", f"/docker/{number}", NOW - 29 * DAY_NS)
    count(db, "new", "/docker/new")
    assert len(read_values(db)) == LIMIT + 1
    assert read_values(db)[OVERFLOW] == 1


def test_the_last_kill_is_the_newest_one(db: sqlite3.Connection) -> None:
    """Kills of an old log come late."""
    for age_ns in (3, 1, 2):
        count(db, "shop", "/docker/1", NOW - age_ns)
    assert read_values(db, LAST_KILL) == {"shop": NOW - 1}


def test_a_series_without_an_owner_has_no_limit(db: sqlite3.Connection) -> None:
    for number in range(2 * LIMIT):
        entry = OutboxEntry(1, "uid", b"log", None, kills=KillCount(f"base {number % 3}"))
        kill_series.count(db, entry, "", 0)
    assert read_values(db).keys() == {"base 0", "base 1", "base 2"}
