"""A real Collector that is not there when the kill happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts.process import LOOPBACK, free_port
from tests.parts.recorder import recorder
from tests.parts.wait import until
from tests.support.agent import agent
from tests.support.kills import kill_many

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_started_after_the_kill_gets_it(
    tmp_path: Path, collector_binary: Path, protocol: str
) -> None:
    """Kills wait on the agent's disk until the Collector is up, and arrive once each."""
    grpc, http = (f"{LOOPBACK}:{free_port()}" for _ in range(2))
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{grpc if protocol == 'grpc' else http}",
    }
    listen = {"OTLP_GRPC_LISTEN": grpc, "OTLP_HTTP_LISTEN": http}
    with agent(tmp_path, environ):
        pids = kill_many(3)
        with recorder(collector_binary, env=listen) as backend:
            until(lambda: len(backend.logs()) >= 3 <= len(backend.spans()), "kills", limit=90)
            arrived = [_pid(item) for item in backend.logs()]
            spans = [_pid(item) for item in backend.spans()]
    assert sorted(arrived) == sorted(spans) == sorted(pids)


def _pid(item: dict[str, list[dict[str, dict[str, str]]]]) -> int:
    return next(
        int(attribute["value"]["intValue"])
        for attribute in item["attributes"]
        if str(attribute["key"]) == "process.pid"
    )
