"""From the event log to a backend, with a row between that can't be decoded."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from google.protobuf.message import Message
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.stats import Stats
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.config.agent import AgentConfig
from otel_oom.config.otlp import read_otlp_config
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.types import Memcg
from otel_oom.store import Store, database_file
from otel_oom.store.counters import NO_BOOT
from tests.testlib.exporter import RequestLog
from tests.testlib.samples.events import KILL, NO_VICTIM, SNAPSHOT, sample_kill
from tests.testlib.servers.backend import attributes_to_dict
from tests.testlib.wait import wait_until


@pytest.mark.parametrize(
    "change",
    [
        "json_set(event, '$.time_unix_ns', 'then')",
        "json_set(event, '$.boottime_ns', 1.5)",
        "json_set(event, '$.stack', json('[7]'))",
        "substr(event, 2)",
    ],
)
def test_a_corrupt_row_delays_no_other(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is quarantined, reported once, and kept on disk; those behind it are delivered."""
    received = RequestLog()
    with Store(tmp_path / "state") as store, Receiver(received) as receiver:
        for number in range(3):
            store.insert(sample_kill(number, boot_id="an earlier boot"), SNAPSHOT)
        with closing(sqlite3.connect(store.path / "otel-oom.db")) as database, database:
            database.execute(f"UPDATE events SET event = {change}, crc32 = NULL WHERE id = 2")  # noqa: S608  of the list above
        config = AgentConfig(read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}))
        delivery = DeliveryPipeline(store, config, Stats(), ContainerService())
        delivery.start()
        wait_until(lambda: len(received.accepted) == 4, "two logs and two spans", limit=30)
        delivery.stop(5)
        assert store.stats.row_counts() == {"events": 3, "outbox": 0, "dead_letters": 0}
        assert store.counters(NO_BOOT)["undecodable"] == 1
        assert sum("quarantined" in message for message in caplog.messages) == 1


def test_an_event_without_a_span_is_delivered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    received = RequestLog()
    with Store(tmp_path / "state") as store, Receiver(received) as receiver:
        store.insert(NO_VICTIM, SNAPSHOT)
        config = AgentConfig(read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}))
        delivery = DeliveryPipeline(store, config, Stats(), ContainerService())
        delivery.start()
        wait_until(lambda: len(received.accepted) == 1, "a log", limit=30)
        delivery.stop(5)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_messages_for_a_backend_that_is_down_are_synced(tmp_path: Path) -> None:
    """No response of it is stored, whose sync would cover them."""
    with Store(tmp_path / "state") as store:
        store.insert(sample_kill(0, boot_id="an earlier boot"), SNAPSHOT)
        config = AgentConfig(
            read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
        )
        delivery = DeliveryPipeline(store, config, Stats(), ContainerService())
        delivery.start()
        wait_until(lambda: store.stats.row_counts()["outbox"] == 2, "a log and a span", limit=30)
        wait_until(lambda: store.delayed_sync.wait_s == math.inf, "their sync")
        delivery.stop(0)


@pytest.mark.slow
def test_a_backlog_of_one_container_does_not_delay_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[str] = []

    def receive(request: Message) -> None:
        if isinstance(request, ExportLogsServiceRequest):
            records = [group.scope_logs[0].log_records[0] for group in request.resource_logs]
            received.extend(attributes_to_dict(r.attributes)["log.record.uid"] for r in records)

    loud = [sample_kill(number, boot_id="an earlier boot") for number in range(300)]
    quiet = replace(KILL, memcg=Memcg(7, "/system.slice/quiet.service"))
    with Store(tmp_path / "state") as store, Receiver(receive) as receiver:
        monkeypatch.setattr(database_file, "SYNCED", "PRAGMA synchronous=OFF")  # nothing crashes
        for kill in (*loud, quiet):
            store.insert(kill, SNAPSHOT)
        config = AgentConfig(read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}))
        delivery = DeliveryPipeline(store, config, Stats(), ContainerService())
        delivery.start()
        wait_until(lambda: len(received) == len(loud) + 1, "all logs", limit=60)
        delivery.stop(5)
    assert quiet.uid in received[:2]
    assert [uid for uid in received if uid != quiet.uid] == [kill.uid for kill in loud]
