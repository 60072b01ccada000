"""The systemd unit: its capabilities are enough, and it runs under systemd."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import Agent, run_agent
from tests.testlib.kernel.kills import kill_in, kill_one
from tests.testlib.kernel.memcg import MEMCG_LIMIT, own_memcg
from tests.testlib.kernel.systemd import run_systemd
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.backend import Backend, filter_kills
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

UNIT = REPOSITORY / "deploy/systemd/otel-oom.service"
NOBODY = 65534
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Create the state directory of the unit's user."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    return tmp_path


def unit_setting(name: str) -> str:
    """Return the only value of a setting of the unit."""
    (value,) = re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text(encoding="utf-8"))
    return str(value)


def unprivileged_prefix() -> tuple[str, ...]:
    """Return the command prefix for an unprivileged user with the unit's capabilities."""
    line = unit_setting("AmbientCapabilities")
    assert unit_setting("CapabilityBoundingSet") == line
    names = ",".join(["-all", *(f"+{name.lower()[4:]}" for name in line.split())])
    return (
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"),
        *(f"--{which}-caps={names}" for which in ("inh", "ambient")),
        *(f"--bounding-set={names}", "--"),
    )


def logged_hooks(running: Agent) -> list[str]:
    """Return the hooks that the agent logged."""
    return wait_until(
        lambda: re.findall("Ready: (.*)\n", running.log_text()), "the agent names its hooks"
    )


_HERE = """\
[Unit]
DefaultDependencies=no
[Service]
ExecStart=
# The interpreter of the tests may be below root's home: the unit's rights open what that hides.
ExecStart=/usr/bin/env {python} -m otel_oom run --no-history
WorkingDirectory={mount_point}
ProtectHome=read-only
# The repository may be below /tmp, of which the unit has its own.
BindReadOnlyPaths={root}:{mount_point}
# No process here may lower its score.
OOMScoreAdjust=0
Environment=OTEL_EXPORTER_OTLP_ENDPOINT={url}
"""
"""What this machine needs to be otherwise."""


def _here(url: str) -> str:
    mount_point = "/run/otel-oom-repository"
    python = sys.executable.replace(f"{REPOSITORY}/", f"{mount_point}/")
    return _HERE.format(python=python, root=REPOSITORY, mount_point=mount_point, url=url)


def test_its_capabilities_are_enough(tmp_path: Path, state_dir: Path) -> None:
    """An unprivileged user with them captures by the same hooks as root."""
    backend, roots = Backend(), tmp_path / "root"
    roots.mkdir()
    with Receiver(backend) as receiver:
        environ = {ENDPOINT: receiver.url}
        with run_agent(roots, environ) as running:
            expected = logged_hooks(running)
        with (
            own_memcg() as memcg,
            run_agent(state_dir, environ, prefix=unprivileged_prefix()) as running,
        ):
            assert logged_hooks(running) == expected
            pid = kill_in(memcg)
            backend.wait_for_kills([pid], within_s=30)
    (log,) = filter_kills(backend.logs, [pid])
    # Of the one whose limit was hit, where the kernel said which one that was.
    limits = {"oom.limit.memcg.limit", "oom.victim.memcg.limit"} & log.attributes.keys()
    assert {log.attributes[name] for name in limits} == {MEMCG_LIMIT}
    assert log.attributes["process.executable.name"] == "tail"


def test_it_runs_and_pins_under_systemd() -> None:
    """Kills while it is stopped are recorded at its next start."""
    backend = Backend()
    with Receiver(backend) as receiver, run_systemd() as manager:
        manager.install(UNIT.name, UNIT.read_text(encoding="utf-8"))
        manager.install(f"{UNIT.name}.d/here.conf", _here(receiver.url))
        manager.systemctl("start", UNIT.name)
        manager.systemctl("stop", UNIT.name)
        pid = kill_one()
        manager.systemctl("start", UNIT.name)
        backend.wait_for_kills([pid], within_s=30)
        said = manager.show(UNIT.stem)
        manager.systemctl("stop", UNIT.name)
    (log,) = filter_kills(backend.logs, [pid])
    assert log.attributes["oom.capture.recovered"] is True
    assert (said["DynamicUser"], said["NRestarts"]) == ("yes", "0")
