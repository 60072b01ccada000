"""The encode loop: rows that are slow, that fail, and that end the process."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.agent import encode_loop
from otel_oom.agent.encode_loop import EncodeLoop
from otel_oom.agent.encoder import EventEncoder
from otel_oom.agent.encoding_mark import EncodingMark
from otel_oom.agent.enricher import EventEnricher
from otel_oom.agent.worker import Liveness
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.types import Memcg, UserFrame
from otel_oom.otlp import semconv
from otel_oom.store import OutboxEntry, PendingEvent, Store
from tests.testlib.samples.events import HOST, KILL, SNAPSHOT, sample_kill

HOSTILE = replace(
    KILL,
    user_stack=(UserFrame("00" * 20, 7),),
    victim=replace(KILL.victim, command=("mysqld", "--x")),
)
QUIET = replace(KILL, boottime_ns=KILL.boottime_ns + 1, victim=replace(KILL.victim, tgid=5))


class DeathError(BaseException):
    """The end of the process."""


class CountingLiveness(Liveness):
    """A liveness that counts its pulses."""

    pulses = 0

    def begin(self) -> None:
        self.pulses += 1
        super().begin()


class Encoder(EventEncoder):
    """The real encoder, with a hook before each row."""

    def __init__(self) -> None:
        super().__init__(EventEnricher(HOST, ContainerService(), KILL.boot_id))

    def encode(self, row: PendingEvent, *, plain: bool = False) -> OutboxEntry:
        self.on_row(row, plain=plain)
        return super().encode(row, plain=plain)

    def on_row(self, row: PendingEvent, *, plain: bool) -> None:
        """Do nothing."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with two kills."""
    with Store(tmp_path) as store:
        for kill in (HOSTILE, QUIET):
            store.insert(kill, SNAPSHOT)
        yield store


def encode_all(
    store: Store, encoder: EventEncoder, liveness: Liveness | None = None
) -> list[Mapping[str, int]]:
    """Run the loop of a process to its end, or its death; return what it has announced."""
    notified: list[Mapping[str, int]] = []
    mark = EncodingMark(store.path)
    loop = EncodeLoop(store, encoder, liveness or Liveness(), mark, KILL.boot_id)
    try:
        loop.encode_pending(threading.Event(), threading.Event(), notified.append)
    finally:
        mark.close()
    return notified


def read_logs(store: Store) -> dict[str, set[str]]:
    """Return the attributes of the log events in the outbox, by uid."""
    names = {}
    for message in store.next_batch("logs", 10, 1 << 20):
        request = ExportLogsServiceRequest.FromString(message.payload)
        (record,) = request.resource_logs[0].scope_logs[0].log_records
        names[message.uid] = {attribute.key for attribute in record.attributes}
    return names


def test_each_row_has_its_own_pulse(store: Store) -> None:
    """The limit of a stall holds for a row: a batch may have 128 of them."""
    liveness, pulses = CountingLiveness(), []
    encoder = Encoder()
    encoder.on_row = lambda *_, **__: pulses.append(liveness.pulses)  # type: ignore[method-assign]
    encode_all(store, encoder, liveness)
    assert len(set(pulses)) == len(pulses) == 4


def test_an_encoded_event_does_not_wait_for_slow_ones(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_loop, "_FLUSH_S", -1.0)
    encoder, queued = Encoder(), []
    encoder.on_row = lambda *_, **__: queued.append(len(read_logs(store)))  # type: ignore[method-assign]
    assert encode_all(store, encoder) == [{"logs": 1}] * 2 + [{"traces": 1}] * 2
    assert queued == [0, 1, 2, 2]


def test_log_events_are_sent_while_their_spans_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request takes the interpreter's lock, which the encoding of a span would hold."""
    monkeypatch.setattr(encode_loop, "_SPAN_DELAY_S", 0.02)
    encoder, begun_at = Encoder(), list[float]()
    encoder.on_row = lambda *_, **__: begun_at.append(time.monotonic())  # type: ignore[method-assign]
    assert encode_all(store, encoder) == [{"logs": 2}, {"traces": 2}]
    assert begun_at[2] - begun_at[1] >= 0.02


def test_a_long_backlog_is_encoded_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More kills than are kept in memory would be enriched again for their spans."""
    monkeypatch.setattr(encode_loop, "MAX_KEPT", 1)
    assert encode_all(store, Encoder()) == [{"logs": 2, "traces": 2}]


def test_slow_events_of_one_holder_delay_no_fresh_event_of_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is encoded after the row in work, and not after those that were read with it."""
    monkeypatch.setattr(encode_loop, "_FLUSH_S", -1.0)
    for number in range(2, 12):
        store.insert(sample_kill(number), SNAPSHOT)
    fresh = replace(sample_kill(12), memcg=Memcg(7, "/system.slice/quiet.service"))
    encoder, uids = Encoder(), list[str]()

    def insert_fresh(row: PendingEvent, *, plain: bool) -> None:
        del plain
        uids.append(row.event.uid)
        if len(uids) == 3:
            store.insert(fresh, SNAPSHOT)

    encoder.on_row = insert_fresh  # type: ignore[method-assign]
    encode_all(store, encoder)
    assert uids.index(fresh.uid) == 3
    # The spans follow.
    assert len(set(uids[:13])) == 13


def test_an_event_at_which_the_process_died_goes_out_without_enrichment(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one is complete; so is the rest of the kernel's own data."""

    def die(row: PendingEvent, *, plain: bool) -> None:
        if row.event.uid == HOSTILE.uid and not plain:
            raise DeathError

    encoder = Encoder()
    encoder.on_row = die  # type: ignore[method-assign]
    with pytest.raises(DeathError):
        encode_all(store, encoder)
    assert not read_logs(store)
    encode_all(store, encoder)
    logs = read_logs(store)
    assert semconv.REQUEST_USER_STACK not in logs[HOSTILE.uid]
    read_in_user_space = logs[QUIET.uid] - logs[HOSTILE.uid]
    assert any(name.startswith(f"{semconv.HOST_MEMORY}.") for name in read_in_user_space)
    assert {semconv.VICTIM_MEMORY_ANON, semconv.DECISION_CONSTRAINT} <= logs[HOSTILE.uid]
    assert caplog.text.count("is sent without enrichment") == 1


def test_an_event_at_which_the_process_dies_again_and_again_is_quarantined(store: Store) -> None:
    def die(row: PendingEvent, **_: bool) -> None:
        if row.event.uid == HOSTILE.uid:
            raise DeathError

    encoder = Encoder()
    encoder.on_row = die  # type: ignore[method-assign]
    for _ in range(6):
        with pytest.raises(DeathError):
            encode_all(store, encoder)
    encode_all(store, encoder)
    assert read_logs(store).keys() == {QUIET.uid}
    (row,) = store.history.rows(store.history.find_by_uid(HOSTILE.uid))
    assert row.undecodable_reason == "the agent ended 6 times in its encoding"


def test_an_event_for_which_there_is_no_memory_is_retried_without_enrichment(
    store: Store,
) -> None:
    """The thread begins again in the same process: one row must not hold up all others."""

    def fail(row: PendingEvent, *, plain: bool) -> None:
        if row.event.uid == HOSTILE.uid and not plain:
            raise MemoryError

    encoder = Encoder()
    encoder.on_row = fail  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        encode_all(store, encoder)
    encode_all(store, encoder)
    assert read_logs(store).keys() == {HOSTILE.uid, QUIET.uid}


@pytest.mark.parametrize("data", [b"", b"0", b"x 12345", b"\xff" * 64, b"0\0x", b"9" * 64])
def test_a_damaged_mark_marks_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "encoding").write_bytes(data)
    mark = EncodingMark(tmp_path)
    assert mark.marked is None
    mark.close()


def test_a_mark_that_cannot_be_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, or the directory read-only or gone."""

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    for folder in (tmp_path, tmp_path / "nowhere"):
        mark = EncodingMark(folder)
        mark.set("uid", 0)
        mark.clear()
        mark.close()
        with suppress(FileNotFoundError):
            (folder / "encoding").unlink()


def test_a_mark_survives_the_process_and_is_gone_after_a_clean_end(tmp_path: Path) -> None:
    first = EncodingMark(tmp_path)
    first.set(KILL.uid, 3)
    second = EncodingMark(tmp_path)
    assert second.marked is not None
    assert (second.marked.uid, second.marked.deaths) == (KILL.uid, 3)
    second.clear()
    assert EncodingMark(tmp_path).marked is None
    assert (tmp_path / "encoding").stat().st_mode & 0o777 == 0o600
