"""The demonstration: a real kill with true values, and no leftovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux.cgroupfs import CgroupMount
from tests.testlib.kernel.oracle import KernelLog, KilledLine
from tests.testlib.servers.backend import Backend

pytestmark = pytest.mark.usefixtures("real_kills")


def run_demo(*words: str, **environ: str) -> tuple[list[str], dict[int, KilledLine]]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    with KernelLog() as log:
        done = subprocess.run(
            [sys.executable, "-m", "otel_oom", "demo", *words],
            env={**plain, **environ},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        killed = {kill.pid: kill for kill in log.read_killed_lines()}
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), killed


def attributes(item: dict[str, Any]) -> dict[str, Any]:
    return {a["key"]: next(iter(a["value"].values())) for a in item["attributes"]}


def leftovers() -> set[str]:
    files = CgroupMount.find()
    assert files is not None
    commands = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
    return {
        *(str(path) for path in files.mount.glob("otel-oom-demo-*")),
        *(str(path) for path in Path(tempfile.gettempdir()).glob("otel-oom-demo-*")),
        *(line.decode(errors="replace") for line in commands if b"otel-oom-demo-" in line),
    }


def test_it_prints_a_kill_of_the_kernel() -> None:
    lines, killed = run_demo("--json")
    log, span = (json.loads(line) for line in lines)
    record = log["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    values = attributes(record)
    victim = killed[int(values["process.pid"])]
    assert values["oom.victim.comm"] == victim.comm == "oom-demo-victim"
    assert int(values["oom.victim.memory.anon"]) == victim.anon * 1024
    item = span["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (item["traceId"], item["spanId"]) == (record["traceId"], record["spanId"])
    assert int(item["endTimeUnixNano"]) > int(item["startTimeUnixNano"])


def test_it_leaves_nothing_behind() -> None:
    before = leftovers()
    run_demo()
    assert leftovers() <= before


def test_it_sends_on_to_the_users_backend() -> None:
    backend = Backend()
    with Receiver(backend) as receiver:
        lines, killed = run_demo("--json", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    (log,), (span,) = backend.logs, backend.spans
    assert log.uid == span.uid
    assert log.attributes["process.pid"] in killed
    assert log.uid in lines[0]


def test_it_leaves_nothing_behind_after_sigterm() -> None:
    before = leftovers()
    with subprocess.Popen(
        [sys.executable, "-m", "otel_oom", "demo"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        assert "Ready" in running.stderr.readline()
        running.terminate()
        running.stderr.read()
        assert running.wait(30) in {0, 128 + signal.SIGTERM}
    assert leftovers() <= before
