"""The whole way from a kernel's buffer to a backend, on a disk that is full."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.agent import service
from otel_oom.capture.source import Handler
from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.config.agent import AgentConfig
from otel_oom.config.otlp import read_otlp_config
from otel_oom.model.events import LostEvents, OomKill
from otel_oom.store import Store
from tests.testlib.kernel.disk import Disk, mount_disk
from tests.testlib.samples.events import sample_kill
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.root

KILLS = [sample_kill(number, boot_id="an earlier boot") for number in range(400)]
"""Of another boot, so that nobody waits for an exit."""


class Kernel:
    """A kernel's buffer: a record leaves it when the handler has returned, not before."""

    name = hook = "buffer"
    decision_source = ""
    pinned = True

    def __init__(self, kills: list[OomKill]) -> None:
        """Hold ``kills``."""
        self.buffer = deque(kills)
        self._readable, self._writable = os.pipe()

    def __enter__(self) -> Self:
        """Nothing is to be attached."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was waited on."""
        os.close(self._readable)
        os.close(self._writable)

    def fileno(self) -> int:
        """A descriptor that is never readable: what is there is there from the start."""
        return self._readable

    def drain(self, handler: Handler) -> int:
        """Hand over what waits."""
        count = 0
        while self.buffer:
            handler(self.buffer[0])
            self.buffer.popleft()
            count += 1
        return count

    def lost_events(self) -> LostEvents:
        """Nothing is lost."""
        return LostEvents()


class Backend:
    """Away at first; then it takes all, and counts each log and span."""

    def __init__(self) -> None:
        """Answer 503."""
        self.away = True
        self.logs: Counter[str] = Counter()
        self.spans: Counter[int] = Counter()

    def __call__(self, request: Message) -> Reply | None:
        """Judge one request."""
        if self.away:
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


def run(kernel: Kernel, backend: Backend, state: Path, story: Callable[[], None]) -> None:
    """Run the agent while ``story`` is told; raises what the story raised."""
    raised: list[BaseException] = []

    def tell() -> None:
        try:
            story()
        except BaseException as error:  # noqa: BLE001  told by the main thread
            raised.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with Receiver(backend) as receiver:
        teller = threading.Thread(target=tell)
        teller.start()
        config = AgentConfig(read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}))
        service.run(kernel, config, state, history=False)
        teller.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("way_out", ["the backend comes back", "the disk has room again"])
def test_a_full_disk_loses_nothing(
    tmp_path: Path, way_out: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Kills wait in the kernel's buffer, that is said once, and all are delivered, each once."""
    kernel, backend = Kernel(KILLS), Backend()
    logs, spans = {kill.uid for kill in KILLS}, {kill.span_id for kill in KILLS}
    with mount_disk(tmp_path / "disk", "16M") as small:
        state = small.path / "state"
        with Store(state):
            small.fill()

        def story() -> None:
            wait_until(lambda: "does not take kills" in caplog.text, "the store is full", limit=30)
            assert kernel.buffer
            waiting = len(kernel.buffer)
            # A few more rounds in vain.
            threading.Event().wait(3)
            assert len(kernel.buffer) == waiting
            release(backend, small, way_out)
            # There may be more: real kills of this host.
            wait_until(lambda: backend.logs.keys() >= logs, "all logs are delivered", limit=120)
            wait_until(lambda: backend.spans.keys() >= spans, "all spans are delivered", limit=120)

        run(kernel, backend, state, story)
        assert max(backend.logs.values()) == max(backend.spans.values()) == 1
        assert sum("does not take kills" in message for message in caplog.messages) == 1
        assert sum("is full" in message for message in caplog.messages) == 1
        assert not any("Traceback" in (record.exc_text or "") for record in caplog.records)
        with Store(state) as store:
            assert store.row_counts()["outbox"] == 0


def release(backend: Backend, small: Disk, way_out: str) -> None:
    """End one of the two troubles; the backend comes back at last either way."""
    if way_out == "the disk has room again":
        small.clear()
    backend.away = False
