"""From the event log to the outbox."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.agent import delivery as delivery_module
from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.stats import Stats
from otel_oom.config.agent import AgentConfig
from otel_oom.config.otlp import read_otlp_config
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.events import NoVictim, OomKill, Panic
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store
from tests.testlib.samples.events import KILL, NO_VICTIM, PANIC

GRACE_S = 30.0


def test_each_kind_of_event_becomes_its_log_event(tmp_path: Path) -> None:
    """It is in the outbox, with its own name and uid, before the end."""
    events: dict[str, OomKill | NoVictim | Panic] = {
        "oom.kill": KILL,
        "oom.no_victim": NO_VICTIM,
        "oom.panic": PANIC,
    }
    with Store(tmp_path) as store:
        for event in events.values():
            store.insert(event, Snapshot(process_found=False))
        # Nobody listens there.
        config = AgentConfig(
            read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
        )
        delivery = DeliveryPipeline(store, config, Stats(), ContainerService())
        delivery.start()
        delivery.stop(GRACE_S)
        messages = store.next_batch("logs", 10, 1 << 20)
    uids = {}
    for message in messages:
        request = ExportLogsServiceRequest.FromString(message.payload)
        (record,) = request.resource_logs[0].scope_logs[0].log_records
        uids[record.event_name] = message.uid
    assert uids == {name: event.uid for name, event in events.items()}


def test_idleness_is_announced_once_after_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "_IDLE_S", 0.0)
    ready, idle = Event(), []
    announced = Event()

    def note_idle() -> None:
        idle.append(True)
        announced.set()

    with Store(tmp_path) as store:
        config = AgentConfig(read_otlp_config({"OTEL_TRACES_EXPORTER": "none"}))
        monkeypatch.setattr(store, "maintain", lambda: 0.01)
        delivery = DeliveryPipeline(
            store, config, Stats(), ContainerService(), on_ready=ready.set, on_idle=note_idle
        )
        delivery.start()
        try:
            assert ready.wait(GRACE_S)
            assert idle == []
            store.insert(NO_VICTIM, Snapshot(process_found=False))
            delivery.notify_events()
            assert announced.wait(GRACE_S)
        finally:
            delivery.stop(0)
    assert len(idle) == 1
