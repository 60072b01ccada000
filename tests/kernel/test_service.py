"""The example unit's user: what it may do with the unit's rights, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.demo.receiver import Receiver
from tests.parts.process import free_port
from tests.parts.wait import until
from tests.support.agent import Agent, agent
from tests.support.backend import Backend, kills_of
from tests.support.bpffs import own_bpffs
from tests.support.kills import LIMIT, kill_in, kill_one, own_memcg

pytestmark = pytest.mark.usefixtures("real_kills")

UNIT = Path(__file__).parents[2] / "examples/systemd/otel-oom.service"
NOBODY = 65534
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the unit's user has its state."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    return tmp_path


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """As systemd mounts it: root's alone."""
    with own_bpffs(tmp_path / "bpffs") as mounted:
        yield mounted


def setting(name: str) -> str:
    """The one value of a line of the unit, as systemd hands it on."""
    (value,) = re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text(encoding="utf-8"))
    return str(value).replace("%%", "%")


def as_its_user() -> tuple[str, ...]:
    """What starts a program as an unprivileged user with the unit's capabilities."""
    line = setting("AmbientCapabilities")
    assert setting("CapabilityBoundingSet") == line
    names = ",".join(["-all", *(f"+{name.lower()[4:]}" for name in line.split())])
    return (
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"),
        *(f"--{which}-caps={names}" for which in ("inh", "ambient")),
        *(f"--bounding-set={names}", "--"),
    )


def hooks(running: Agent) -> list[str]:
    """What the agent says that it captures by."""
    return until(lambda: re.findall("Ready: (.*)\n", running.said()), "the agent names its hooks")


def test_its_capabilities_are_enough(tmp_path: Path, folder: Path) -> None:
    """An unprivileged user with those alone captures by the same hooks as root does."""
    backend, roots = Backend(), tmp_path / "root"
    roots.mkdir()
    with Receiver(backend) as receiver:
        environ = {ENDPOINT: receiver.url}
        with agent(roots, environ) as running:
            expected = hooks(running)
        with own_memcg() as memcg, agent(folder, environ, through=as_its_user()) as running:
            assert hooks(running) == expected
            pid = kill_in(memcg)
            backend.wait_for_kills([pid], within_s=30)
    (log,) = kills_of(backend.logs, [pid])
    # Of the one whose limit was hit, where the kernel said which one that was.
    limits = {"oom.limit.memcg.limit", "oom.victim.memcg.limit"} & log.attributes.keys()
    assert {log.attributes[name] for name in limits} == {LIMIT}
    assert log.attributes["process.executable.name"] == "tail"


def test_it_tells_of_kills_while_it_did_not_run(folder: Path, bpffs: Path) -> None:
    """What the unit runs as root first lets its user pin: a kill between two runs is told late."""
    before = setting("ExecStartPre")
    assert before.startswith("+/bin/sh -c '")
    # As another user would have left it: with DynamicUser= each start may have its own.
    (bpffs / "otel-oom" / "v1").mkdir(parents=True)
    program = before.removeprefix("+/bin/sh -c '").removesuffix("'")
    program = program.replace("/sys/fs/bpf", f"{bpffs}")
    subprocess.run(
        ["/bin/sh", "-c", program],
        env={"STATE_DIRECTORY": f"{folder / 'state'}", "PATH": os.environ["PATH"]},
        check=True,
    )
    pins = bpffs / "otel-oom" / "v1"
    nowhere = {ENDPOINT: f"http://127.0.0.1:{free_port()}"}
    with agent(folder, nowhere, pin_dir=pins, through=as_its_user()) as first:
        first.end()
    pid = kill_one()
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        agent(folder, {ENDPOINT: receiver.url}, pin_dir=pins, through=as_its_user()),
    ):
        backend.wait_for_kills([pid], within_s=30)
    (log,) = kills_of(backend.logs, [pid])
    assert log.attributes["oom.capture.late"] is True
