"""The image, run by the command of docs/install.md in podman and in Docker."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_oom import __version__
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux.process import ProcessDir
from otel_oom.linux.rights import BPFFS
from tests.testlib.containers import docker, docker_root, podman
from tests.testlib.containers.agent_container import AgentContainer, run_agent_container
from tests.testlib.containers.base_image import REQUIREMENTS
from tests.testlib.containers.image import AGENT_IMAGE, built_image
from tests.testlib.containers.kills import wait_for_kill_log, wait_for_span
from tests.testlib.containers.podman_storage import find_storage_driver
from tests.testlib.kernel.bpffs import mount_bpffs
from tests.testlib.kernel.oracle import KernelLog, wait_for_report_budget
from tests.testlib.servers.backend import Backend
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

LIMIT = 24 << 20
CAPABILITIES = sum(1 << number for number in (2, 19, 34, 38, 39))
"""DAC_READ_SEARCH, SYS_PTRACE, SYSLOG, PERFMON, BPF by the numbers of linux/capability.h."""
DEFAULT_USER = 65532
MAX_ADDED_BYTES = 80 << 20
HEALTH_S = 60.0

_LIST_PACKAGES = """\
import importlib.metadata as m, json
names = {each.name.lower().replace("_", "-"): each.version for each in m.distributions(path=%r)}
print(json.dumps(names))
"""

Runtime = podman.Podman | docker.Docker


@pytest.fixture(scope="module", params=["podman", "docker"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    image = built_image()
    if request.param == "podman":
        with podman.run_podman(find_storage_driver()) as of_podman:
            of_podman.podman("load", f"--input={image}")
            yield of_podman
    else:
        with docker_root.run_docker_of_root(bridge=False) as of_docker:
            of_docker.docker("load", stdin=image.read_bytes())
            yield of_docker


@pytest.fixture
def backend() -> Backend:
    return Backend()


@contextmanager
def run_agent(
    runtime: Runtime, folder: Path, backend: Backend, *options: str, user: int = 0
) -> Iterator[AgentContainer]:
    """Run the agent with a bpffs of its own; as another user without the option for root."""
    without = ("--user=0",) if user else ()
    if ProcessDir(1).namespace_inode("mnt") is None:
        # This machine hides the root directory of init, through which the agent reads the rest.
        options = (*options, *mount_containers(runtime))
    with own_bpffs(runtime, folder) as (bpffs, option), Receiver(backend) as receiver:
        (bpffs / "otel-oom").mkdir(exist_ok=True)
        os.chown(bpffs / "otel-oom", user, user)
        with run_agent_container(
            runtime.command, receiver.url, *options, bpffs=option, without=without
        ) as running:
            yield running
        assert list(bpffs.glob("otel-oom/*/*/links/*")), "nothing was pinned"


@contextmanager
def own_bpffs(runtime: Runtime, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the path of a bpffs, and by which path the runtime mounts it."""
    if isinstance(runtime, docker.Docker):
        yield Path(f"/proc/{runtime.process.pid}/root{BPFFS}"), BPFFS
    else:
        with mount_bpffs(folder / "bpffs") as bpffs:
            yield bpffs, bpffs


def mount_containers(runtime: Runtime) -> Iterator[str]:
    """Yield options that mount the runtime's folders of containers where an agent finds them."""
    if isinstance(runtime, docker.Docker):
        yield from (f"--volume={each}" for each in docker_root.mount_containers(runtime))
        return
    folder = f"{runtime.storage_driver}-containers"
    for own, default in (("storage", "/var/lib"), ("run", "/run")):
        target = f"{default}/containers/storage/{folder}"
        yield f"--volume={runtime.folder / own / folder}:{target}:ro"


def test_the_kill_of_another_container_arrives_whole(
    runtime: Runtime, backend: Backend, tmp_path: Path
) -> None:
    """As the runtime and the kernel have it, in log and span."""
    wait_for_report_budget(kills=1)
    with run_agent(runtime, tmp_path, backend) as agent, KernelLog() as kernel_log:
        inspected = runtime.run_until_killed("shop-web", memory=str(LIMIT))
        log = wait_for_kill_log(backend, inspected["Id"])
        assert wait_for_span(backend, log).resource == log.resource
        pid = log.attributes["process.pid"]
        (killed,) = (each for each in kernel_log.read_killed_lines() if each.pid == pid)
        assert "by tp_btf/mark_victim" in agent.log_text()
    check_resource(log.resource, inspected)
    assert log.resource["host.name"] == socket.gethostname()
    assert pid == inspected["State"]["Pid"]
    assert log.attributes["oom.victim.comm"] == killed.comm
    assert log.attributes["oom.victim.memory.anon"] == killed.anon * 1024
    assert log.attributes["oom.limit.memcg.limit"] == LIMIT
    assert log.attributes["oom.limit.scope"] == "own"
    assert f",pid={pid}," in log.attributes["log.record.original"]
    assert "oom.advice" in log.attributes
    assert "oom.enrichment.error" not in log.attributes


def check_resource(resource: dict[str, Any], inspected: dict[str, Any]) -> None:
    """Check the container by what the runtime says of it."""
    image = inspected.get("ImageName") or inspected["Config"]["Image"]
    name, _, tag = image.rpartition(":")
    assert resource["container.id"] == inspected["Id"]
    assert resource["container.name"] == inspected["Name"].removeprefix("/")
    assert resource["container.image.name"] == name
    assert resource["container.image.tags"] == [tag]
    assert resource["container.image.id"] == inspected["Image"]


def test_its_rights_are_the_documented_ones(
    runtime: Runtime, backend: Backend, tmp_path: Path
) -> None:
    """Five capabilities, none more by a program, and a root directory that is read-only."""
    with run_agent(runtime, tmp_path, backend) as agent:
        status = ProcessDir(agent.pid).read_status()
        text = Path(f"/proc/{agent.pid}/status").read_text(encoding="ascii")
        mounts = Path(f"/proc/{agent.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
        written = agent.execute("touch", "/opt/otel-oom/file")
    assert status is not None
    assert status.effective_capabilities == CAPABILITIES
    assert f"CapBnd:\t{CAPABILITIES:016x}" in text
    assert "NoNewPrivs:\t1" in text
    (options,) = {line.split()[5] for line in mounts if line.split()[4] == "/"}
    assert "ro" in options.split(",")
    assert written.returncode != 0


def test_the_health_check_follows_the_agent(
    runtime: Runtime, backend: Backend, tmp_path: Path
) -> None:
    """It passes, fails while the agent is stopped, and passes after that."""
    # The first passes long before: an agent that starts is not unhealthy.
    often = ("--health-interval=1s", "--health-retries=1", "--health-start-period=0s")
    with run_agent(runtime, tmp_path, backend, *often) as agent:
        check_health(runtime, agent, healthy=True)
        pid = agent.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            check_health(runtime, agent, healthy=False)
        finally:
            os.kill(pid, signal.SIGCONT)
        check_health(runtime, agent, healthy=True)


def check_health(runtime: Runtime, agent: AgentContainer, *, healthy: bool) -> None:
    """Wait for a health: Docker's own, or that of podman's check, which runs here.

    By itself, podman's needs systemd. An agent that starts is healthy once it has read the log.
    """
    expected = "healthy" if healthy else "unhealthy"

    def is_as_expected() -> bool:
        if isinstance(runtime, podman.Podman):
            return (agent.run("healthcheck", "run", "otel-oom").returncode == 0) == healthy
        return agent.inspect("{{.State.Health.Status}}") == expected

    wait_until(is_as_expected, expected, limit=HEALTH_S)


def test_the_default_user_has_capabilities_with_podman_only(
    runtime: Runtime, backend: Backend, tmp_path: Path
) -> None:
    """As docs/install.md says; with podman that user captures and pins."""
    if isinstance(runtime, docker.Docker):
        options = ("--rm", "--network=none", "--cap-add=BPF", "--entrypoint=cat")
        text = runtime.docker("run", *options, AGENT_IMAGE, "/proc/self/status")
        assert f"Uid:\t{DEFAULT_USER}" in text
        assert f"CapEff:\t{0:016x}" in text
        return
    with run_agent(runtime, tmp_path, backend, user=DEFAULT_USER) as agent:
        status = ProcessDir(agent.pid).read_status()
        assert status is not None
        assert status.uid == DEFAULT_USER
        assert status.effective_capabilities == CAPABILITIES
        inspected = runtime.run_until_killed("shop-api", memory=str(LIMIT))
        log = wait_for_kill_log(backend, inspected["Id"])
    check_resource(log.resource, inspected)


def test_it_holds_the_wheel_and_its_requirements_only(runtime: Runtime) -> None:
    """In the pinned versions, below 80 MiB, owned by root, with a label for the version."""
    agent = AgentContainer(runtime.command)
    folder = "/opt/otel-oom/lib"
    find = f"echo {folder}/python3*/site-packages"
    limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
    options = ("run", "--rm", "--network=none", *limits, "--entrypoint=sh", AGENT_IMAGE, "-c")
    packages = agent.run(*options, f"{find} && du -sb /opt/otel-oom && find /opt -user 65532")
    lines = [line for line in packages.stdout.splitlines() if not line.startswith("time=")]
    path, weight = lines
    assert int(weight.split()[0]) < MAX_ADDED_BYTES
    program = _LIST_PACKAGES % [path]
    listed = agent.run(*options, f"python3 -c '{program}'".replace("['", '["').replace("']", '"]'))
    (text,) = (line for line in listed.stdout.splitlines() if line.startswith("{"))
    pins = (
        line.split()[0] for line in REQUIREMENTS.read_text("utf-8").splitlines() if "==" in line
    )
    pinned = dict(pin.split("==") for pin in pins)
    assert json.loads(text) == {**pinned, "otel-oom": __version__}
    (inspected,) = json.loads(agent.run("image", "inspect", AGENT_IMAGE).stdout)
    labels = inspected["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert inspected["Config"]["User"] == f"{DEFAULT_USER}:{DEFAULT_USER}"
