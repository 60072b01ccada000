"""From a kernel's buffer to a backend, on a full disk."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.stats import Stats
from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.config.agent import AgentConfig
from otel_oom.config.otlp import read_otlp_config
from otel_oom.linux.containers.service import ContainerService
from otel_oom.store import Store
from tests.testlib.ingest import ScriptedSource, ingest_loop
from tests.testlib.kernel.disk import Disk, mount_disk
from tests.testlib.samples.events import sample_kill
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.root

KILLS = [sample_kill(number, boot_id="an earlier boot") for number in range(200)]
"""Of another boot, so that no span waits for an exit; undelivered, they fit on the disk."""


class Backend:
    """Unavailable at first; then it accepts all, and counts each log and span."""

    def __init__(self) -> None:
        """Respond with 503."""
        self.unavailable = True
        self.logs: Counter[str] = Counter()
        self.spans: Counter[int] = Counter()

    def __call__(self, request: Message) -> Reply | None:
        """Handle one request."""
        if self.unavailable:
            return Reply(503)
        if isinstance(request, ExportLogsServiceRequest):
            self.logs.update(
                attribute.value.string_value
                for group in request.resource_logs
                for scope in group.scope_logs
                for record in scope.log_records
                for attribute in record.attributes
                if attribute.key == "log.record.uid"
            )
        else:
            assert isinstance(request, ExportTraceServiceRequest)
            self.spans.update(
                int.from_bytes(span.span_id)
                for group in request.resource_spans
                for scope in group.scope_spans
                for span in scope.spans
            )
        return None


@contextmanager
def ingesting(source: ScriptedSource, state_dir: Path, url: str) -> Iterator[None]:
    """Run ingest and delivery as the agent does, in threads of this process."""
    reader, writer = os.pipe()
    config = AgentConfig(read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": url}))
    with Store(state_dir, config.store_limits) as store, source:
        delivery = DeliveryPipeline(store, config, Stats(), ContainerService())
        delivery.start()
        ingest = ingest_loop(source, store, on_event=delivery.notify_events)
        thread = threading.Thread(target=ingest.loop, args=(reader,))
        thread.start()
        try:
            yield
        finally:
            os.write(writer, b"x")
            thread.join()
            delivery.stop(3)
            ingest.finish()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("way_out", ["the backend is back", "the disk has space"])
def test_a_full_disk_loses_nothing(
    tmp_path: Path, way_out: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Kills wait in the kernel's buffer, which is logged once; each is delivered once."""
    caplog.set_level("INFO")
    source, backend = ScriptedSource(KILLS), Backend()
    logs, spans = {kill.uid for kill in KILLS}, {kill.span_id for kill in KILLS}
    with mount_disk(tmp_path / "disk", "16M") as small, Receiver(backend) as receiver:
        state_dir = small.path / "state"
        with Store(state_dir):
            small.fill()
        with ingesting(source, state_dir, receiver.url):
            wait_until(lambda: "Cannot store kills" in caplog.text, "the disk is full", limit=30)
            waiting = len(source.buffer)
            assert waiting
            # A few more tries that fail.
            threading.Event().wait(3)
            assert len(source.buffer) == waiting
            release(backend, small, way_out)
            # There may be more: real kills of this host.
            wait_until(lambda: backend.logs.keys() >= logs, "all logs are delivered", limit=120)
            wait_until(lambda: backend.spans.keys() >= spans, "all spans are delivered", limit=120)
        assert max(backend.logs.values()) == max(backend.spans.values()) == 1
        assert sum("Cannot store kills" in message for message in caplog.messages) == 1
        assert sum("disk full" in message for message in caplog.messages) == 1
        assert not any("Traceback" in (record.exc_text or "") for record in caplog.records)
        with Store(state_dir) as store:
            assert store.stats.row_counts()["outbox"] == 0


def release(backend: Backend, small: Disk, way_out: str) -> None:
    """End one of the two faults; the backend is back at last either way."""
    if way_out == "the disk has space":
        small.clear()
    backend.unavailable = False
