"""From the event log to the outbox."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.stats import Stats
from otel_oom.config.agent import AgentConfig
from otel_oom.config.otlp import OtlpConfig
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
        config = AgentConfig(OtlpConfig((), {}, disabled=False))
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
