"""The last kill of each victim: a limited number of them, shared by the holders."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from otel_oom.store import repeats
from otel_oom.store.schema import migrate
from otel_oom.store.types import Repeat

LIMIT = 64
NOW = time.time_ns()


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        yield connection


def save(db: sqlite3.Connection, key: str, holder: str, unix_ns: int = NOW) -> None:
    repeats.save(db, Repeat(key, 2, unix_ns, unix_ns, ("incident",)), holder, LIMIT)


def count(db: sqlite3.Connection) -> int:
    (number,) = db.execute("SELECT count(*) FROM repeats").fetchone()
    return int(number)


def test_what_is_saved_is_found(db: sqlite3.Connection) -> None:
    first, second = (Repeat("web", n, 1, NOW, ("a", f"b{n}")) for n in (1, 2))
    for repeat in (first, second):
        repeats.save(db, repeat, "/pod")
        assert repeats.find(db, "web") == repeat
    assert repeats.find(db, "other") is None


def test_a_holder_of_many_names_leaves_a_share_to_each_other(db: sqlite3.Connection) -> None:
    """It replaces its own oldest ones; those of the others stay."""
    for number in range(10 * LIMIT):
        save(db, f"hostile {number}", "/hostile", NOW + number)
    for number in range(LIMIT // 4):
        save(db, f"quiet {number}", f"/{number}")
        save(db, f"hostile again {number}", "/hostile", NOW + 10 * LIMIT + number)
    assert all(repeats.find(db, f"quiet {number}") for number in range(LIMIT // 4))
    assert repeats.find(db, f"hostile again {LIMIT // 4 - 1}")
    assert repeats.find(db, "hostile 0") is None
    assert count(db) <= LIMIT


def test_with_more_holders_than_the_limit_the_oldest_is_replaced(db: sqlite3.Connection) -> None:
    for number in range(3 * LIMIT):
        save(db, f"{number}", f"/{number}", NOW + number)
    assert count(db) == LIMIT
    assert repeats.find(db, f"{3 * LIMIT - 1}")
    assert repeats.find(db, "0") is None


def test_victims_that_are_quiet_make_way_first(db: sqlite3.Connection) -> None:
    save(db, "quiet", "/quiet", NOW - repeats.QUIET_NS - 1)
    for number in range(LIMIT - 2):
        save(db, f"{number}", f"/{number}")
    assert repeats.find(db, "quiet")
    for number in range(2):
        save(db, f"last {number}", f"/last {number}")
    assert repeats.find(db, "quiet") is None
    assert count(db) == LIMIT
