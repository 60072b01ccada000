"""Kills in containers, as a backend has received them from an agent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import run_agent
from tests.testlib.servers.backend import Backend, Received
from tests.testlib.wait import wait_until

ARRIVES_S = 30.0


@contextmanager
def run_watching_agent(folder: Path, **environ: str) -> Iterator[Backend]:
    """Run an agent that watches for containers; yield the backend that receives its telemetry."""
    received = Backend()
    with Receiver(received) as receiver:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        with run_agent(folder, environ) as running:
            running.wait_until_watching()
            yield received


def wait_for_kill_log(backend: Backend, container_id: str) -> Received:
    """Wait for the log of the one kill in a container, and return it."""

    def find() -> list[Received]:
        return [log for log in backend.logs if log.resource.get("container.id") == container_id]

    (log,) = wait_until(find, "the kill's log", limit=ARRIVES_S)
    return log


def wait_for_span(backend: Backend, log: Received) -> Received:
    """Wait for the span of the same kill, and return it."""

    def find() -> list[Received]:
        return [span for span in backend.spans if span.uid == log.uid]

    (span,) = wait_until(find, "the kill's span", limit=ARRIVES_S)
    return span
