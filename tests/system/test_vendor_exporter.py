"""The example of an exporter of another package, fed by a real agent with real kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import Agent, run_agent
from tests.testlib.command import run_command, run_otel_oom
from tests.testlib.kernel.kills import kill_one
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.backend import Backend
from tests.testlib.servers.http_server import HttpServer, Request, http_response
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

LIMIT_S = 90.0


class Vendor:
    """The vendor's API: it fails five times, and once the agent dies before its response."""

    def __init__(self) -> None:
        self.agents: list[Agent] = []
        self.failures = 0
        self.deaths = 0
        self.logs: list[dict[str, Any]] = []
        self.spans: list[dict[str, Any]] = []

    def __call__(self, request: Request) -> bytes:
        """Respond to one batch."""
        items = json.loads(request.body)
        if request.target == "/spans":
            self.spans += items
            return http_response(202)
        if self.failures == 3 and not self.deaths:
            # It has the batch, but the agent does not learn that.
            self.logs += items
            self.deaths += 1
            os.kill(self.agents[-1].process.pid, signal.SIGKILL)
        elif self.failures < 5:
            self.failures += 1
            return http_response(500)
        else:
            self.logs += items
        return http_response(202)


def pids(items: list[dict[str, Any]]) -> set[int]:
    return {item["fields"]["process.pid"] for item in items if "process.pid" in item["fields"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example as pip installs it."""
    folder = tmp_path_factory.mktemp("vendor")
    shutil.copytree(REPOSITORY / "examples/vendor-exporter", folder / "source")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
    done = run_command([*pip, "--no-index", "--target", folder / "site", folder / "source"])
    assert done.code == 0, done
    return folder / "site"


def test_nothing_is_lost_over_five_failures_and_a_sigkill(tmp_path: Path, site: Path) -> None:
    """OTLP beside it gets each kill once. What the vendor had before the SIGKILL has one uid."""
    vendor, collector = Vendor(), Backend()
    with HttpServer(vendor) as api, Receiver(collector) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_LOGS_EXPORTER": "otlp,acme",
            "OTEL_TRACES_EXPORTER": "acme",
            "OTEL_METRICS_EXPORTER": "none",
            "ACME_URL": api.url,
            "PYTHONPATH": str(site),
        }
        killed = set()
        with run_agent(tmp_path, environ) as first:
            vendor.agents.append(first)
            killed |= {kill_one(), kill_one()}
            assert first.process.wait(LIMIT_S) == -signal.SIGKILL
        with run_agent(tmp_path, environ) as second:
            killed.add(kill_one())
            wait_until(lambda: killed <= pids(vendor.logs), "logs", limit=LIMIT_S)
            wait_until(lambda: killed <= pids(vendor.spans), "spans", limit=LIMIT_S)
            wait_until(lambda: len(collector.logs) >= 3, "OTLP", limit=LIMIT_S)
            state = tmp_path / "state"
            wait_until(lambda: waiting(state) == {}, "an empty outbox", limit=LIMIT_S)
            page = run_otel_oom("queue", "--state-dir", state).out
            doctor = run_otel_oom("doctor", "--json", "--state-dir", state, env=environ).out
            listed = run_otel_oom("events", "--state-dir", state).out
            assert second.stop() == 0
    assert (vendor.failures, vendor.deaths) == (5, 1)
    by_otlp = Counter(record.uid for record in collector.logs)
    assert {record.attributes["process.pid"] for record in collector.logs} >= killed
    assert set(by_otlp.values()) == {1}
    kills = [item for item in vendor.logs if item["event"] == "oom.kill"]
    assert {item["fields"]["log.record.uid"] for item in kills} == set(by_otlp)
    assert len(kills) > len(by_otlp), "the batch of the SIGKILL came once"
    # What an exporter gets is what OTLP carries, resource included.
    for record in collector.logs:
        item = next(each for each in kills if each["fields"]["log.record.uid"] == record.uid)
        assert item["fields"] == record.attributes
        assert item["origin"] == record.resource
        assert item["message"] == record.item.body.string_value
        assert item["time"] == record.item.time_unix_nano
    rows = [line.split() for line in page.splitlines()]
    # A kill has a log, and another for its victim's end.
    assert ["logs:acme", str(2 * len(by_otlp)), "0"] in rows
    assert ["logs", str(2 * len(by_otlp)), "0"] in rows
    (check,) = (c for c in json.loads(doctor)["checks"] if c["name"] == "logs exporter")
    assert check["state"] == "ok"
    assert f"; accepted {2 * len(by_otlp)}, rejected 0, waiting 0" in check["detail"]
    statuses = [line.split()[-1] for line in listed.splitlines() if " killed " in line]
    assert set(statuses) == {"delivered"}


def waiting(state: Path) -> dict[str, int]:
    report = json.loads(run_otel_oom("queue", "--json", "--state-dir", state).out)
    return {f"{row['signal']}:{row['exporter']}": row["count"] for row in report["waiting"]}


def test_the_console_exporter_prints_a_real_kill(tmp_path: Path) -> None:
    """On standard output, by the SDK's own exporter."""
    environ = dict.fromkeys(("OTEL_LOGS_EXPORTER", "OTEL_TRACES_EXPORTER"), "console")
    printed = tmp_path / "printed"
    shell = ("sh", "-c", f'exec "$@" > {printed}', "sh")
    with run_agent(tmp_path, {**environ, "OTEL_METRICS_EXPORTER": "none"}, prefix=shell) as running:
        pid = kill_one()
        wait_until(lambda: f'"process.pid": {pid}' in printed.read_text(), "the log", limit=LIMIT_S)
        wait_until(
            lambda: '"status_code": "ERROR"' in printed.read_text(), "the span", limit=LIMIT_S
        )
        assert running.stop() == 0
