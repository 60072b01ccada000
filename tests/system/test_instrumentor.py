"""`opentelemetry-instrument` on a program: it gets the kills of the host, or is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.testlib.agent import run_agent
from tests.testlib.command import NOBODY, mount_namespace
from tests.testlib.kernel.kills import kill_one
from tests.testlib.require import require

pytestmark = pytest.mark.root

COMMAND = (
    str(Path(sys.executable).with_name("opentelemetry-instrument")),
    *("--logs_exporter", "console", "--traces_exporter", "none", "--metrics_exporter", "none"),
    # By itself it asks access(2) for the interpreter, which knows no capability.
    *("env", sys.executable, "-c"),
)
PROGRAM = """
import os, sys
print("started", flush=True)
sys.stdin.readline()
if not os.fork():
    sys.exit(0)  # a child does not end the parent's work
os.wait()
print("forked", flush=True)
sys.stdin.readline()
print("done", flush=True)
sys.exit(7)
"""
NO_CAPABILITY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")


@contextmanager
def run_program(*prefix: str) -> Iterator[subprocess.Popen[str]]:
    """Run the instrumented program; yield once it has started, and has waited for a child."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with subprocess.Popen(
        [*prefix, *COMMAND, PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        cwd="/",
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == "started\n", process.stderr
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "forked\n"
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str]:
    """Let the program end; return the log records that it printed, and its stderr."""
    out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 7, err
    records = []
    printed, _, rest = out.partition("done\n")
    text = (printed + rest).strip()
    while text:
        record, end = json.JSONDecoder().raw_decode(text)
        records.append(record)
        text = text[end:].strip()
    return records, err


def killed_pids(records: Sequence[dict[str, Any]]) -> list[int]:
    return [
        record["attributes"]["process.pid"]
        for record in records
        if record["event_name"] == "oom.kill"
    ]


@pytest.mark.usefixtures("real_kills")
def test_the_first_program_of_a_host_gets_its_kills() -> None:
    with run_program() as program, run_program() as second:
        pids = [kill_one(), kill_one()]
        records, err = finish(program)
        records_of_second, err_of_second = finish(second)
    assert sorted(killed_pids(records)) == sorted(pids)
    assert err == ""
    (service,) = {record["resource"]["attributes"]["service.name"] for record in records}
    assert service == "tail"
    assert records_of_second == []
    # The children of the first one are instrumented, too.
    assert err_of_second == ""


@pytest.mark.parametrize("prefix", [NOBODY, NO_CAPABILITY], ids=["nobody", "no capability"])
def test_without_rights_the_program_runs_undisturbed(prefix: tuple[str, ...]) -> None:
    require(os.geteuid() == 0, "to become somebody else needs root")
    with run_program(*prefix) as program:
        records, err = finish(program)
    assert records == []
    (line,) = err.splitlines()
    assert line.startswith("INFO otel-oom: OOM kills are not captured by this program: CAP_BPF is")


@pytest.mark.usefixtures("real_kills")
def test_beside_an_agent_the_program_leaves_the_work_to_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}) as agent:
        prefix = mount_namespace(
            "mount -t tmpfs none /var/lib",
            "mkdir /var/lib/otel-oom",
            f"mount --bind {state} /var/lib/otel-oom",
        )
        with run_program(*prefix) as program:
            kill_one()
            records, err = finish(program)
        assert agent.stop() == 0
    assert records == []
    assert err.endswith("the agent in /var/lib/otel-oom does\n")
    assert len(err.splitlines()) == 1
