"""What was refused stays until somebody decides, and what waits is told in figures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.store import Backlog, OutboxEntry, Rejection, Store

REFUSAL = Rejection("http://collector:4318/v1/logs", "HTTP 400: no")
ALL = 1 << 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store(tmp_path / "state") as opened:
        yield opened


def put(store: Store, *uids: str, span: bytes | None = b"span") -> None:
    """Queue a log and a span for each."""
    store.enqueue([OutboxEntry(0, uid, f"log of {uid}".encode(), span) for uid in uids])


def refuse(store: Store, refusal: Rejection = REFUSAL) -> None:
    """Have all logs that wait refused."""
    store.reject(store.next_batch("logs", ALL, ALL), refusal)


def test_a_dead_letter_says_all_that_is_known(store: Store) -> None:
    """Which message, how large, who refused it, why, when, and whether there is doubt."""
    put(store, "a")
    before = time.time_ns()
    refuse(store, Rejection("http://host", "1 of 2 rejected", ambiguous=True))
    (letter,) = store.dead_letters.page(0, ALL)
    assert (letter.uid, letter.signal, letter.size) == ("a", "logs", len(b"log of a"))
    assert (letter.endpoint, letter.reason, letter.ambiguous) == (
        "http://host",
        "1 of 2 rejected",
        True,
    )
    assert before <= letter.rejected_unix_ns <= time.time_ns()


def test_dead_letters_come_in_pages(store: Store) -> None:
    """However many there are, no more than asked for are read at once."""
    put(store, *"abcde")
    refuse(store)
    first = store.dead_letters.page(0, 2)
    second = store.dead_letters.page(first[-1].id, 2)
    assert [letter.uid for letter in [*first, *second]] == ["a", "b", "c", "d"]
    assert store.dead_letters.newest_id() == store.dead_letters.page(0, ALL)[-1].id


def test_what_is_sent_again_waits_as_it_was(store: Store) -> None:
    """A dead letter goes back with its bytes, behind what waits already."""
    put(store, "a", "b")
    refuse(store)
    put(store, "c")
    first, _ = store.dead_letters.page(0, ALL)
    assert store.dead_letters.resend([first.id]) == 1
    waiting = store.next_batch("logs", ALL, ALL)
    assert [(message.uid, message.payload) for message in waiting] == [
        ("c", b"log of c"),
        ("a", b"log of a"),
    ]
    assert [letter.uid for letter in store.dead_letters.page(0, ALL)] == ["b"]
    assert store.dead_letters.resend([first.id]) == 0, "it is no dead letter any more"


def test_what_was_perhaps_taken_goes_alone(store: Store) -> None:
    """The answer to a ambiguous message is about it and no other; the rest goes together."""
    put(store, "a", "b")
    refuse(store, Rejection("http://host", "1 of 2 rejected", ambiguous=True))
    put(store, "c", "d")
    store.dead_letters.resend([letter.id for letter in store.dead_letters.page(0, ALL)])
    batches = []
    while batch := store.next_batch("logs", ALL, ALL):
        batches.append([message.uid for message in batch])
        store.ack(batch)
    assert batches == [["c", "d"], ["a"], ["b"]]


def test_what_is_dropped_is_gone(store: Store) -> None:
    """Dropping deletes for good, and only what was named."""
    put(store, "a", "b")
    refuse(store)
    first, second = store.dead_letters.page(0, ALL)
    assert store.dead_letters.drop([first.id]) == 1
    assert store.dead_letters.page(0, ALL) == [second]
    assert store.next_batch("logs", ALL, ALL) == []


def test_no_id_is_given_twice(store: Store) -> None:
    """What is in flight, or was looked at, never shares its id with what came later."""
    put(store, "a", span=None)
    (sent,) = store.next_batch("logs", ALL, ALL)
    refuse(store)
    newest = store.dead_letters.newest_id()
    store.dead_letters.drop([newest])
    put(store, "b", span=None)
    store.ack([sent])
    assert [message.uid for message in store.next_batch("logs", ALL, ALL)] == ["b"]
    refuse(store)
    assert store.dead_letters.newest_id() > newest


def test_a_refused_message_that_waits_again_is_one(store: Store) -> None:
    """A message that was queued anew meanwhile is not sent twice for its dead letter."""
    put(store, "a")
    refuse(store)
    put(store, "a")
    store.dead_letters.resend([letter.id for letter in store.dead_letters.page(0, ALL)])
    assert [message.uid for message in store.next_batch("logs", ALL, ALL)] == ["a"]


def test_what_waits_is_told_in_figures(store: Store) -> None:
    """Number, bytes and age of what waits, by signal, however much it is."""
    assert store.stats.backlogs() == []
    before = time.time_ns()
    count = 2500
    put(store, *(f"{number:04}" for number in range(count)))
    logs, traces = store.stats.backlogs()
    size = len(b"log of 0000")
    assert logs == Backlog("logs", count, count * size, logs.oldest_unix_ns)
    assert traces == Backlog("traces", count, count * len(b"span"), traces.oldest_unix_ns)
    assert before <= logs.oldest_unix_ns <= time.time_ns()
    store.ack(store.next_batch("logs", 2000, ALL))
    assert store.stats.backlogs()[0].count == 500
