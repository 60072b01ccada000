"""Repeated kills of one victim, as they are sent and as the store has them."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from otel_oom.agent.encoder import EventEncoder
from otel_oom.agent.enricher import EventEnricher
from otel_oom.agent.repeat_counter import RepeatCounter
from otel_oom.commands.history.entry import decode_rows
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.events import OomKill
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.store import OutboxEntry, Store
from tests.testlib.samples.events import EXIT, HOST, KILL, SNAPSHOT, sample_kill

HOUR_NS = 3600 * NS_PER_S
AT_0, AT_1 = "2023-11-14T22:13:20.000Z", "2023-11-14T23:13:20.000Z"


def kill_at(hour: float, number: int, comm: str = "java", incident: str | None = None) -> OomKill:
    """Return a kill in the container of the sample, some hours after that one."""
    kill = sample_kill(number, time_unix_ns=KILL.time_unix_ns + int(hour * HOUR_NS))
    return replace(kill, victim=replace(kill.victim, comm=comm), incident=incident)


def new_encoder(store: Store) -> EventEncoder:
    enricher = EventEnricher(HOST, ContainerService(), KILL.boot_id, RepeatCounter(store))
    return EventEncoder(enricher)


def encode(store: Store, encoder: EventEncoder, *kills: OomKill) -> list[OutboxEntry]:
    """Store kills, and encode what is pending as one batch."""
    for kill in kills:
        assert store.insert(kill, SNAPSHOT)
    return [encoder.encode(row) for row in store.pending_events(128, KILL.boot_id, 0)]


def read_repeats(store: Store) -> list[tuple[int | None, str | None]]:
    """Return count and first time of the kills in the history, oldest first, by log and span."""
    entries, errors = decode_rows(store.history.page_before(None))
    assert not errors
    values = [entry.event.attributes for entry in reversed(entries)]
    return [(v.integer(semconv.REPEAT_COUNT), v.text(semconv.REPEAT_FIRST_TIME)) for v in values]


def test_kills_of_a_victim_are_counted_across_restarts_of_the_agent(tmp_path: Path) -> None:
    """Of one batch, and of another process."""
    with Store(tmp_path) as store:
        store.enqueue(encode(store, new_encoder(store), kill_at(0, 1), kill_at(1, 2)))
    with Store(tmp_path) as store:
        store.enqueue(encode(store, new_encoder(store), kill_at(2, 3), kill_at(2, 4, comm="sh")))
        assert read_repeats(store) == [
            (1, AT_0),
            (2, AT_0),
            (3, AT_0),
            (1, "2023-11-15T00:13:20.000Z"),
        ]


def test_log_and_span_have_the_same_count(tmp_path: Path) -> None:
    """The span comes later, after other kills, and maybe from another process."""
    first = kill_at(0, 1)
    with Store(tmp_path) as store:
        store.enqueue(encode(store, new_encoder(store), first, kill_at(1, 2)))
        store.add_exit(
            KILL.boot_id, replace(EXIT, start_boottime_ns=first.victim.start_boottime_ns)
        )
        (entry,) = encode(store, new_encoder(store))
        assert entry.span is not None
        assert entry.repeat is None
        store.enqueue([entry])
        rows = store.history.page_before(None)
        assert rows[-1].repeat
        assert rows[-1].repeat.count == 1
        (decoded,), _ = decode_rows([rows[-1]])
        assert decoded.span is not None
        (span,) = decoded.span.resource_spans[0].scope_spans[0].spans
        values = {each.key: each.value for each in span.attributes}
        assert values[semconv.REPEAT_COUNT].int_value == 1
        assert values[semconv.REPEAT_FIRST_TIME].string_value == AT_0


def test_what_is_encoded_again_counts_once(tmp_path: Path) -> None:
    """The disk was full, so the batch comes again; by the same process, and by another."""
    with Store(tmp_path) as store:
        encoder = new_encoder(store)
        encode(store, encoder, kill_at(0, 1), kill_at(1, 2))
        again = encode(store, encoder)
        assert [entry.repeat and entry.repeat.count for entry in again] == [1, 2]
        entries = encode(store, new_encoder(store))
        assert [entry.repeat and entry.repeat.count for entry in entries] == [1, 2]


def test_a_group_that_is_killed_at_once_counts_once(tmp_path: Path) -> None:
    leader = kill_at(0, 1)
    members = [kill_at(0, number, incident=leader.uid) for number in (2, 3)]
    with Store(tmp_path) as store:
        store.enqueue(encode(store, new_encoder(store), leader, *members, kill_at(1, 4)))
        assert [count for count, _ in read_repeats(store)] == [1, 1, 1, 2]


def test_groups_that_are_killed_at_the_same_time_count_once_each(tmp_path: Path) -> None:
    """Two pods of one owner: their members come in turns."""
    leaders = [kill_at(0, 1), kill_at(0, 2)]
    members = [kill_at(0, 3 + number, incident=leaders[number % 2].uid) for number in range(4)]
    with Store(tmp_path) as store:
        store.enqueue(encode(store, new_encoder(store), *leaders, *members))
        assert {count for count, _ in read_repeats(store)} == {1, 2}


def test_a_kill_of_another_time_does_not_disturb_the_count(tmp_path: Path) -> None:
    """It comes from a log that is read late."""
    with Store(tmp_path) as store:
        kills = [kill_at(0, 1), kill_at(1, 2), kill_at(-50, 3), kill_at(2, 4)]
        store.enqueue(encode(store, new_encoder(store), *kills))
        assert [count for count, _ in read_repeats(store)] == [1, 2, 1, 3]


def test_kills_far_apart_are_no_repeats(tmp_path: Path) -> None:
    """A job that runs daily is one story; one that runs weekly is not."""
    with Store(tmp_path) as store:
        kills = [kill_at(hour, hour) for hour in (0, 24, 48, 48 + 37)]
        store.enqueue(encode(store, new_encoder(store), *kills))
        assert [count for count, _ in read_repeats(store)] == [1, 2, 3, 1]


def test_a_kill_that_is_read_late_counts_and_may_be_the_first(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.enqueue(encode(store, new_encoder(store), kill_at(1, 1), kill_at(0, 2)))
        assert read_repeats(store) == [(1, AT_1), (2, AT_0)]


def test_what_the_kernel_skipped_is_not_counted(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        skipped = replace(kill_at(0, 1), skipped=True)
        store.enqueue(encode(store, new_encoder(store), skipped, kill_at(1, 2)))
        assert read_repeats(store) == [(None, None), (1, AT_1)]
