"""Events of the event log as OTLP: the encoded copy, or a fresh encoding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from otel_oom.agent.control_client import ControlClient
from otel_oom.agent.control_handlers import store_handlers
from otel_oom.agent.control_server import Request
from otel_oom.commands.history import parse_time_ns, queries
from otel_oom.commands.history.entry import UndecodableEventError, entry_from_row
from otel_oom.enrich.event import enrich_kill, enrich_panic
from otel_oom.enrich.host import Host
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.events import NoVictim, OomKill, Panic
from otel_oom.model.loss import MissedKills
from otel_oom.otlp.encode import encode_log, encode_span
from otel_oom.store import HistoryRow, OutboxEntry, Store
from tests.testlib.samples.events import (
    EXIT,
    HOST,
    KILL,
    NO_VICTIM,
    PANIC,
    REAPER_STEPS,
    SNAPSHOT,
    sample_enriched_kill,
    sample_kill,
)

NS = 10**9


def local_host() -> Host:
    return HOST


def no_host() -> Host:
    raise AssertionError


def client(store: Store) -> ControlClient:
    known = store_handlers(store)
    return lambda request: json.loads(json.dumps(known[request["method"]](request)))


def stored(
    folder: Path,
    event: OomKill | NoVictim | Panic | MissedKills = KILL,
    encoded: Mapping[str, bytes] | None = None,
) -> HistoryRow:
    with Store(folder) as store:
        store.insert(event, SNAPSHOT)
        if isinstance(event, OomKill):
            for step in REAPER_STEPS:
                store.add_reaper_step(event.boot_id, step)
            store.add_exit(event.boot_id, EXIT)
        if encoded:
            store.enqueue([OutboxEntry(1, event.uid, encoded.get("log"), encoded.get("span"))])
        (row,) = queries.read_newest(client(store))
        return row


def test_an_encoded_event_is_returned_byte_for_byte(tmp_path: Path) -> None:
    encoded = {
        "log": encode_log(sample_enriched_kill()),
        "span": encode_span(sample_enriched_kill()),
    }
    entry = entry_from_row(stored(tmp_path, encoded=encoded), no_host)
    assert entry.log.SerializeToString() == encoded["log"]
    assert entry.span
    assert entry.span.SerializeToString() == encoded["span"]
    assert (entry.log_status, entry.span_status) == ("queued", "queued")


def test_a_pending_event_is_encoded_now(tmp_path: Path) -> None:
    row = stored(tmp_path)
    entry = entry_from_row(row, local_host)
    now = enrich_kill(KILL, SNAPSHOT, VictimOutcome(EXIT, REAPER_STEPS), row.stored_unix_ns, HOST)
    assert entry.log.SerializeToString() == encode_log(now)
    assert entry.span
    assert entry.span.SerializeToString() == encode_span(now)
    assert (entry.log_status, entry.span_status) == ("pending", "pending")


def test_an_encoded_log_with_a_pending_span(tmp_path: Path) -> None:
    log = encode_log(replace(sample_enriched_kill(), resource={"service.name": "encoded"}))
    entry = entry_from_row(stored(tmp_path, encoded={"log": log}), local_host)
    assert entry.log.SerializeToString() == log
    assert entry.span
    assert entry.span.resource_spans[0].scope_spans[0].spans[0].trace_id.hex() == (
        entry.event.trace_id
    )
    assert entry.event.resource.text("service.name") == "encoded"


def test_events_that_are_too_large_for_one_response(tmp_path: Path) -> None:
    answered: list[int] = []
    with Store(tmp_path) as store:
        for number in range(20):
            store.insert(sample_kill(number, stack=("x" * 300_000,)), SNAPSHOT)
        query = client(store)

        def counting(wanted: Request) -> Any:  # noqa: ANN401  JSON
            answer = query(wanted)
            answered.append(len(json.dumps(answer)))
            return answer

        ids = [row.id for row in queries.read_newest(counting)]
        assert [row.id for row in queries.read_rows(counting, [*ids[::-1], 99])] == ids[::-1]
    assert len(ids) == 20
    assert max(answered) < 2 << 20


@pytest.mark.parametrize(
    "event",
    [
        NO_VICTIM,
        PANIC,
        MissedKills(
            boot_id="b", boottime_ns=1, time_unix_ns=NS, count=3, kernel_count=9, reason="unknown"
        ),
        replace(KILL, skipped=True),
    ],
)
def test_every_kind_of_event(
    tmp_path: Path, event: NoVictim | Panic | MissedKills | OomKill
) -> None:
    entry = entry_from_row(stored(tmp_path, event), local_host)
    assert entry.event.uid == event.uid
    assert entry.event.unix_ns == event.time_unix_ns
    assert entry.event.body
    assert (entry.span, entry.span_status) == (None, None)


def test_a_panic_is_encoded_like_by_the_agent(tmp_path: Path) -> None:
    row = stored(tmp_path, PANIC)
    log = encode_log(enrich_panic(PANIC, row.stored_unix_ns, HOST))
    assert entry_from_row(row, local_host).log.SerializeToString() == log


@pytest.mark.parametrize(
    "change",
    [
        {"event": "{}"},
        {"event": "no JSON"},
        {"snapshot": "[]"},
        {"kind": "of a later version"},
        {"log": b"\xff\xff", "span": b""},
        {"log": b"", "span": b""},
    ],
)
def test_an_undecodable_event_is_an_error(tmp_path: Path, change: dict[str, Any]) -> None:
    row = replace(stored(tmp_path), **change)
    with pytest.raises(UndecodableEventError, match=row.uid):
        entry_from_row(row, local_host)


def test_an_encoded_event_of_a_later_version_is_returned(tmp_path: Path) -> None:
    encoded = {
        "log": encode_log(sample_enriched_kill()),
        "span": encode_span(sample_enriched_kill()),
    }
    row = replace(stored(tmp_path, encoded=encoded), kind="of a later version", event="{}")
    assert entry_from_row(row, no_host).event.uid == KILL.uid


def test_times_are_parsed() -> None:
    now = 1_700_000_000 * NS
    assert parse_time_ns("90m", now) == now - 5400 * NS
    assert parse_time_ns("2d", now) == now - 172_800 * NS
    assert parse_time_ns("2023-11-14T22:13:20") == now
    assert parse_time_ns("2023-11-14T23:13:20+01:00") == now
    assert parse_time_ns("2023-11-14") < now
