"""A real Collector that is not running when the kill happens."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import pytest

from tests.testlib.agent import run_agent
from tests.testlib.kernel.kills import kill_many
from tests.testlib.process import LOOPBACK, free_port
from tests.testlib.servers.recorder import run_recorder
from tests.testlib.servers.web import Json
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_started_after_the_kill_receives_it(
    tmp_path: Path, collector_binary: Path, protocol: str
) -> None:
    """Kills wait on the agent's disk until the Collector runs, and arrive once each."""
    grpc, http = (f"{LOOPBACK}:{free_port()}" for _ in range(2))
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{grpc if protocol == 'grpc' else http}",
    }
    listen = {"OTLP_GRPC_LISTEN": grpc, "OTLP_HTTP_LISTEN": http}
    with run_agent(tmp_path, environ):
        pids = kill_many(3)
        with run_recorder(collector_binary, env=listen) as backend:

            def arrived() -> tuple[list[int], list[int]] | None:
                logs, spans = (
                    _victims_of(pids, items) for items in (backend.logs(), backend.spans())
                )
                return (logs, spans) if set(logs) == set(spans) == set(pids) else None

            logs, spans = wait_until(arrived, "the kills", limit=90) or ([], [])
    assert logs == spans == sorted(pids)


def _victims_of(pids: Collection[int], items: Iterable[Json]) -> list[int]:
    """Return the victims of ``items`` among ``pids``: this host may have other kills.

    The log events of their ends are no kills.
    """
    victims = (
        int(attribute["value"]["intValue"])
        for item in items
        if item.get("eventName", "oom.kill") == "oom.kill"
        for attribute in item["attributes"]
        if attribute["key"] == "process.pid"
    )
    return sorted(pid for pid in victims if pid in pids)
