"""Counters outlive the process and the rows that they counted."""

from __future__ import annotations

from pathlib import Path

from otel_oom.store import OutboxEntry, Rejection, Store
from otel_oom.store.counters import NO_BOOT
from tests.testlib.samples.events import KILL, NO_VICTIM, SNAPSHOT, sample_kill

BOOT = KILL.boot_id


def test_captured_events_are_counted_once(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for event in (
            KILL,
            KILL,
            NO_VICTIM,
            sample_kill(1, skipped=True),
            sample_kill(2, boot_id="other"),
        ):
            store.insert(event, SNAPSHOT)
    with Store(tmp_path) as store:
        store.insert(sample_kill(3), SNAPSHOT)
        store.insert(KILL, SNAPSHOT)
        assert store.counters(BOOT) == {
            "captured.kill": 2,
            "captured.no_victim": 1,
            "captured.skipped": 1,
        }
        assert store.counters("other") == {"captured.kill": 1}


def test_sent_and_rejected_messages_are_counted_by_signal(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for uid in ("a", "b", "c"):
            store.enqueue([OutboxEntry(0, uid, b"log", b"span")])
        logs, spans = (store.next_batch(signal, 10, 1000) for signal in ("logs", "traces"))
        store.ack(logs[:2])
        store.ack(logs[:2])
        store.reject(logs[2:], Rejection("http://host", "no"))
        store.ack(spans)
        assert store.counters(NO_BOOT) == {"sent.logs": 2, "rejected.logs": 1, "sent.traces": 3}


def test_counters_can_be_set(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.set_counters(BOOT, {"noted": 7, "other": 1})
        store.set_counters(BOOT, {"noted": 8})
    with Store(tmp_path) as store:
        assert store.counters(BOOT) == {"noted": 8, "other": 1}
