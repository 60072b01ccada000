"""An agent that sends one signal alone, with real kills, to a server that knows no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.testlib.agent import run_agent
from tests.testlib.command import run_otel_oom
from tests.testlib.kernel.kills import kill_one
from tests.testlib.servers.http_server import HttpServer, Request, http_response
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


def count_waiting(folder: Path) -> int:
    """Count the messages in the outbox."""
    queue = json.loads(run_otel_oom("queue", "--json", "--state-dir", folder / "state").out)
    return sum(backlog["count"] for backlog in queue["waiting"])


PATHS = {"logs": "/v1/logs", "traces": "/v1/traces"}


@pytest.mark.parametrize(("on", "off"), [("logs", "traces"), ("traces", "logs")])
def test_a_signal_that_is_off_is_neither_sent_nor_queued(tmp_path: Path, on: str, off: str) -> None:
    """No request to any other path, no message that waits, no dead letter."""

    def answer(request: Request) -> bytes:
        return http_response(200 if request.target == PATHS[on] else 404)

    with HttpServer(answer) as server:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
            f"OTEL_{off.upper()}_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
        }
        with run_agent(tmp_path, environ) as running:
            for number in range(2):
                kill_one()
                wait_until(lambda: len(server.requests) > number, "the kill has arrived")  # noqa: B023  called at once
            # Of each victim's end there is a log event as well.
            wait_until(lambda: count_waiting(tmp_path) == 0, "all has arrived")
            done = run_otel_oom("queue", "--json", "--state-dir", tmp_path / "state")
            queue = json.loads(done.out)
            listed = run_otel_oom("events", "--state-dir", tmp_path / "state").out
            assert running.stop() == 0
    events = {
        record.event_name
        for request in server.requests
        if on == "logs"
        for group in ExportLogsServiceRequest.FromString(request.body).resource_logs
        for record in group.scope_logs[0].log_records
    }
    assert events == ({"oom.kill", "oom.victim.exited"} if on == "logs" else set())
    assert {request.target for request in server.requests} == {PATHS[on]}
    assert queue["off"] == {off: f"OTEL_{off.upper()}_EXPORTER=none"}
    assert queue["dead_letters"] == []
    statuses = [line.split()[-1] for line in listed.splitlines() if " killed " in line]
    assert set(statuses) == {"delivered" if on == "logs" else "off"}
