"""Five thousand services are killed: the series are bounded, and each kill counts once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from otel_oom.agent.metrics.exporter import read_counters
from otel_oom.agent.metrics.kill_metrics import build_metrics
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.store import Store
from tests.testlib.command import clean_environ, run_command
from tests.testlib.samples.log_lines import KILLED, REPORT
from tests.testlib.servers.backend import Backend
from tests.testlib.wait import wait_until

SERVICES = 5000
LIMIT = 1000
LIMIT_S = 240.0
OVERFLOW = "otel.metric.overflow"


def write_log(path: Path) -> None:
    """Write the log of a host on which each service lost a process."""
    path.write_text("".join(f"{line}\n" for line in log_lines()), encoding="ascii")


def log_lines() -> Iterator[str]:
    start, decision = REPORT[0], REPORT[-1]
    for number in range(SERVICES):
        own = decision.replace("/outer/inner", f"/system.slice/shop-{number}.service")
        texts = (start, own.replace("/outer", f"/system.slice/shop-{number}.service"), KILLED)
        for text in texts:
            pid = str(5356 + number)
            yield f"[{100 + number / 10:12.6f}] {text.replace('5356', pid)}"


def read_points(state_dir: Path) -> dict[str, list[Any]]:
    """Return the data points of each metric, as the agent exports them."""
    with Store(state_dir) as store:
        metrics = build_metrics(read_counters(store), 1)
    return {metric.name: list(metric.data.data_points) for metric in metrics}


def count_kills(state_dir: Path) -> int:
    return sum(point.value for point in read_points(state_dir)["oom.kills"])


@pytest.mark.slow
def test_the_sums_are_exact_beyond_the_limit_and_across_crashes(tmp_path: Path) -> None:
    """A replay that SIGKILL ends, and that a second one finishes."""
    log, state, backend = tmp_path / "dmesg", tmp_path / "state", Backend()
    write_log(log)
    with Receiver(backend) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_TRACES_EXPORTER": "none",
            "no_proxy": "*",
        }
        words = ["replay", "--state-dir", str(state), str(log)]
        command = [sys.executable, "-m", "otel_oom", *words]
        process = subprocess.Popen(command, env=clean_environ() | environ, stderr=DEVNULL)
        wait_until(lambda: len(backend.logs) > SERVICES // 2, "a part is sent", limit=LIMIT_S)
        process.send_signal(signal.SIGKILL)
        assert process.wait(LIMIT_S) == -signal.SIGKILL
        assert 0 < count_kills(state) < SERVICES
        done = run_command(command, environ, limit_s=LIMIT_S)
    assert done.code == 0, done
    sent = {record.uid: record.resource["service.name"] for record in backend.logs}
    assert len(sent) == len(set(sent.values())) == SERVICES

    metrics = read_points(state)
    kills = metrics["oom.kills"]
    owners = [point for point in kills if "service.name" in point.attributes]
    (overflow,) = (point for point in kills if OVERFLOW in point.attributes)
    assert sum(point.value for point in kills) == SERVICES
    assert len(owners) == LIMIT
    assert {point.value for point in owners} == {1}
    assert overflow.value == SERVICES - LIMIT
    assert overflow.attributes["oom.limit.scope"] == "own"
    (memory,) = metrics["oom.victim.memory"]
    assert memory.count == SERVICES
    assert len(metrics["oom.last_kill.time"]) == LIMIT + 1
