"""Dead letters, and the backlog of the outbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.store import Backlog, OutboxEntry, Rejection, Store

REJECTION = Rejection("http://collector:4318", "HTTP 400: no")
ALL = 1 << 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store(tmp_path / "state") as opened:
        yield opened


def enqueue(store: Store, *uids: str, span: bytes | None = b"span") -> None:
    store.enqueue([OutboxEntry(0, uid, f"log of {uid}".encode(), span) for uid in uids])


def reject(store: Store, rejection: Rejection = REJECTION) -> None:
    """Reject all logs of the outbox."""
    store.reject(store.next_batch("logs", ALL, ALL), rejection)


def test_fields_of_a_dead_letter(store: Store) -> None:
    enqueue(store, "a")
    before = time.time_ns()
    reject(store, Rejection("http://host", "1 of 2 rejected", ambiguous=True))
    (letter,) = store.dead_letters.page(0, ALL)
    assert (letter.uid, letter.channel, letter.size) == ("a", "logs", len(b"log of a"))
    assert (letter.endpoint, letter.reason, letter.ambiguous) == (
        "http://host",
        "1 of 2 rejected",
        True,
    )
    assert before <= letter.rejected_unix_ns <= time.time_ns()


def test_dead_letters_in_pages(store: Store) -> None:
    enqueue(store, *"abcde")
    reject(store)
    first = store.dead_letters.page(0, 2)
    second = store.dead_letters.page(first[-1].id, 2)
    assert [letter.uid for letter in [*first, *second]] == ["a", "b", "c", "d"]
    assert store.dead_letters.newest_id() == store.dead_letters.page(0, ALL)[-1].id


def test_resend_moves_a_letter_to_the_end_of_the_outbox(store: Store) -> None:
    enqueue(store, "a", "b")
    reject(store)
    enqueue(store, "c")
    first, _ = store.dead_letters.page(0, ALL)
    assert store.dead_letters.resend([first.id]) == 1
    batch = store.next_batch("logs", ALL, ALL)
    assert [(message.uid, message.payload) for message in batch] == [
        ("c", b"log of c"),
        ("a", b"log of a"),
    ]
    assert [letter.uid for letter in store.dead_letters.page(0, ALL)] == ["b"]
    assert store.dead_letters.resend([first.id]) == 0, "it is no dead letter any more"


def test_an_ambiguous_letter_is_sent_alone(store: Store) -> None:
    enqueue(store, "a", "b")
    reject(store, Rejection("http://host", "1 of 2 rejected", ambiguous=True))
    enqueue(store, "c", "d")
    store.dead_letters.resend([letter.id for letter in store.dead_letters.page(0, ALL)])
    batches = []
    while batch := store.next_batch("logs", ALL, ALL):
        batches.append([message.uid for message in batch])
        store.ack(batch)
    assert batches == [["c", "d"], ["a"], ["b"]]


def test_drop(store: Store) -> None:
    enqueue(store, "a", "b")
    reject(store)
    first, second = store.dead_letters.page(0, ALL)
    assert store.dead_letters.drop([first.id]) == 1
    assert store.dead_letters.page(0, ALL) == [second]
    assert store.next_batch("logs", ALL, ALL) == []


def test_ids_are_never_reused(store: Store) -> None:
    enqueue(store, "a", span=None)
    (sent,) = store.next_batch("logs", ALL, ALL)
    reject(store)
    newest = store.dead_letters.newest_id()
    store.dead_letters.drop([newest])
    enqueue(store, "b", span=None)
    store.ack([sent])
    assert [message.uid for message in store.next_batch("logs", ALL, ALL)] == ["b"]
    reject(store)
    assert store.dead_letters.newest_id() > newest


def test_resend_of_a_letter_that_is_queued_again_adds_nothing(store: Store) -> None:
    enqueue(store, "a")
    reject(store)
    enqueue(store, "a")
    store.dead_letters.resend([letter.id for letter in store.dead_letters.page(0, ALL)])
    assert [message.uid for message in store.next_batch("logs", ALL, ALL)] == ["a"]


def test_backlogs_by_signal(store: Store) -> None:
    assert store.stats.backlogs() == []
    before = time.time_ns()
    count = 2500
    enqueue(store, *(f"{number:04}" for number in range(count)))
    logs, traces = store.stats.backlogs()
    size = len(b"log of 0000")
    assert logs == Backlog("logs", count, count * size, logs.oldest_unix_ns)
    assert traces == Backlog("traces", count, count * len(b"span"), traces.oldest_unix_ns)
    assert before <= logs.oldest_unix_ns <= time.time_ns()
    store.ack(store.next_batch("logs", 2000, ALL))
    assert store.stats.backlogs()[0].count == 500
