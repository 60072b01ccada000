"""Kills in containers, as a backend has received them."""

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
    """What an agent with that environment sends, started before a test's containers."""
    received = Backend()
    with Receiver(received) as receiver:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        with run_agent(folder, environ) as running:
            running.wait_until_watching()
            yield received


def wait_for_kill_log(backend: Backend, container_id: str) -> Received:
    """The log of the one kill in a container."""

    def found() -> list[Received]:
        return [log for log in backend.logs if log.resource.get("container.id") == container_id]

    (log,) = wait_until(found, "the kill's log", limit=ARRIVES_S)
    return log


def wait_for_span(backend: Backend, log: Received) -> Received:
    """The span of the same kill."""

    def found() -> list[Received]:
        return [span for span in backend.spans if span.uid == log.uid]

    (span,) = wait_until(found, "the kill's span", limit=ARRIVES_S)
    return span
