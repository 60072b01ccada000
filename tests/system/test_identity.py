"""Real kills of processes whose environment names their service."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import run_agent
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.testlib.servers.backend import Backend, filter_kills

pytestmark = pytest.mark.usefixtures("real_kills")

KILLS = 20


def kill_with(environ: dict[str, str]) -> int:
    """Have the kernel kill a process with this environment; return its pid."""
    with (
        own_memcg() as memcg,
        subprocess.Popen(
            [*cgroup_prefix(memcg), "tail", "/dev/zero"], env={"PATH": os.defpath, **environ}
        ) as process,
    ):
        assert process.wait(60) == -signal.SIGKILL
        return process.pid


def test_a_victim_has_the_service_name_of_its_environment(tmp_path: Path) -> None:
    """No other variable leaves the host.

    The kernel may free a victim's memory before it can be read: not every kill has the name.
    """
    environ = {
        "SECRET": "hunter2",
        "OTEL_SERVICE_NAME": "checkout",
        "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.4.2,deployment.environment.name=staging",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=hunter2",
    }
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as running,
    ):
        pids = [kill_with(environ) for _ in range(KILLS)]
        backend.wait_for_kills(pids, within_s=30)
        assert running.stop() == 0
    logs = filter_kills(backend.logs, pids)
    own = [log.resource for log in logs if log.resource["service.name"] == "checkout"]
    assert own
    for resource in own:
        assert resource["service.version"] == "1.4.2"
        assert resource["deployment.environment.name"] == "staging"
    assert {log.resource["service.name"] for log in logs} <= {"checkout", "tail"}
    assert all("hunter2" not in str(record.item) for record in (*logs, *backend.spans))
    for file in (tmp_path / "state").iterdir():
        assert b"hunter2" not in file.read_bytes()
