"""`otel-oom events --follow`: kills reach a Collector by a file, without OTLP."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.testlib.agent import run_agent
from tests.testlib.command import clean_environ
from tests.testlib.kernel.kills import kill_one
from tests.testlib.process import LOOPBACK, free_port
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.collector import run_collector
from tests.testlib.servers.recorder import run_recorder
from tests.testlib.wait import wait_until

pytestmark = [pytest.mark.usefixtures("real_kills"), pytest.mark.servers]

CONFIGS = [REPOSITORY / "collector-config" / f"{name}.yaml" for name in ("agent", "jsonfile")]
NO_OTLP = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("LOGS", "TRACES", "METRICS")}


# The receiver of the Collector adds it.
@pytest.mark.unregistered("log.file.name")
def test_kills_reach_a_collector_by_a_file(collector_binary: Path, tmp_path: Path) -> None:
    """Each once: one from before the start, one later, and one of a later run of the agent."""
    backend = f"{LOOPBACK}:{free_port()}"
    events = tmp_path / "events.jsonl"
    environ = {
        "BACKEND_ENDPOINT": f"http://{backend}",
        "QUEUE_DIRECTORY": str(tmp_path / "queue"),
        "EVENTS_FILE": str(events),
    }
    command = [sys.executable, "-m", "otel_oom", "events", "--follow", "--json"]
    command += ["--state-dir", str(tmp_path / "state")]
    with (
        run_recorder(collector_binary, env={"OTLP_HTTP_LISTEN": backend}) as sink,
        run_collector(collector_binary, *CONFIGS, env=environ),
        events.open("wb") as file,
    ):

        def received() -> list[int]:
            if not sink.file.exists():
                return []
            return [
                int(attribute["value"]["intValue"])
                for log in sink.logs()
                for attribute in log["attributes"]
                if attribute["key"] == "process.pid"
            ]

        pids = []
        with run_agent(tmp_path, NO_OTLP) as running:
            pids.append(kill_one())
            follower = subprocess.Popen(command, stdout=file, env=clean_environ())
            try:
                wait_until(lambda: received() == pids, "the first kill", limit=30)
                pids.append(kill_one())
                wait_until(lambda: received() == pids, "the second kill", limit=30)
                assert running.stop() == 0
                with run_agent(tmp_path, NO_OTLP):
                    pids.append(kill_one())
                    wait_until(lambda: received() == pids, "the third kill", limit=30)
            finally:
                follower.kill()
                follower.wait()
    assert len(events.read_bytes().splitlines()) == len(pids)
