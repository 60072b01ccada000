"""A first look: deploy/container/compose.yaml with the real servers, by Docker's compose."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from otel_oom.linux.process import ProcessDir
from tests.testlib.containers.agent_container import can_raise_limits
from tests.testlib.containers.docker import Docker
from tests.testlib.containers.docker_root import mount_containers, run_docker_of_root
from tests.testlib.containers.image import AGENT_IMAGE, built_image
from tests.testlib.kernel.oracle import KernelLog, wait_for_report_budget
from tests.testlib.repository import REPOSITORY
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

ARRIVES_S = 60.0
FILE = Path("deploy/container/compose.yaml")
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / FILE).read_text(encoding="utf-8"))
LIMIT = 24 << 20
_FETCH: Final = """\
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
"""
CHANGES: Final = {
    "collector": "USER 10001",
    "jaeger": "ENV JAEGER_LISTEN_HOST=0.0.0.0",
    "victorialogs": "WORKDIR /tmp",
}
"""What the published image of a server has beside its program, as far as it matters here."""


@pytest.fixture(scope="module")
def runtime(
    collector_binary: Path, jaeger_binary: Path, victorialogs_binary: Path
) -> Iterator[Docker]:
    """Run Docker with images of the servers under the names in the file."""
    agent = built_image().read_bytes()
    with run_docker_of_root(bridge=True) as running:
        running.docker("load", stdin=agent)
        running.docker("tag", AGENT_IMAGE, COMPOSE["services"]["otel-oom"]["image"])
        binaries = (collector_binary, jaeger_binary, victorialogs_binary)
        for name, binary in zip(CHANGES, binaries, strict=True):
            entry = f"--change=ENTRYPOINT [{json.dumps(f'/{name}')}]"
            image = COMPOSE["services"][name]["image"]
            words = ("import", entry, f"--change={CHANGES[name]}", "-", image)
            running.docker(*words, stdin=archive_server(name, binary))
        yield running


def archive_server(name: str, binary: Path) -> bytes:
    """Return the files of an image: a program, and a folder for temporary files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(binary, name)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def compose(runtime: Docker) -> Iterator[Docker]:
    """Start all services of the file, in a copy of its folders that this Docker reaches."""
    folder = runtime.process.folder / "repository"
    for name in (FILE.parent, "collector-config"):
        shutil.copytree(REPOSITORY / name, folder / name)
    override = folder / "override.yaml"
    override.write_text(json.dumps({"services": {"otel-oom": adapt_agent(runtime)}}), "utf-8")
    words = ("compose", f"--file={folder / FILE}", f"--file={override}")
    runtime.docker(*words, "up", "--detach")
    try:
        yield runtime
    finally:
        runtime.docker(*words, "down", "--volumes", "--timeout=1", check=False)


def adapt_agent(runtime: Docker) -> dict[str, Any]:
    """Return what this machine forbids or hides, as options of the agent's service."""
    limits = {} if can_raise_limits() else {"oom_score_adj": 0, "ulimits": {"memlock": 65536}}
    if ProcessDir(1).namespace_inode("mnt") is None:
        return {**limits, "volumes": list(mount_containers(runtime))}
    return limits


def fetch(runtime: Docker, url: str, **parameters: str) -> str:
    """Fetch a page of a published port, in the network of this Docker."""
    query = urllib.parse.urlencode(parameters)
    enter = ("nsenter", f"--target={runtime.process.pid}", "--net", "--")
    command = (*enter, sys.executable, "-c", _FETCH, f"{url}?{query}")
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def test_a_kill_arrives_in_jaeger_and_victorialogs(compose: Docker) -> None:
    """With the container's own values, and the victim as the kernel logged it."""
    agent = COMPOSE["name"] + "-otel-oom-1"
    wait_until(
        lambda: "Watching for containers" in docker_logs(compose, agent), "agent", limit=ARRIVES_S
    )
    wait_for_report_budget(kills=1)
    with KernelLog() as log:
        container = compose.run_until_killed("shop-web", memory=str(LIMIT))
        query = f'container.id:="{container["Id"]}" event_name:="oom.kill"'
        logs = "http://127.0.0.1:9428/select/logsql/query"
        text = wait_until(lambda: fetch(compose, logs, query=query), "log", limit=ARRIVES_S)
        fields = json.loads(text)
        pid = int(fields["process.pid"])
        (killed,) = (each for each in log.read_killed_lines() if each.pid == pid)
    assert pid == container["State"]["Pid"]
    assert fields["event_name"] == "oom.kill"
    assert fields["container.name"] == container["Name"].removeprefix("/") == "shop-web"
    assert fields["oom.victim.memory.anon"] == str(killed.anon * 1024)
    assert fields["oom.limit.memcg.limit"] == str(LIMIT)
    assert f",pid={pid}," in fields["log.record.original"]
    url = f"http://127.0.0.1:16686/api/traces/{fields['trace_id']}"
    trace = wait_until(
        lambda: json.loads(fetch(compose, url) or "{}").get("data"), "span", limit=ARRIVES_S
    )
    (process,) = trace[0]["processes"].values()
    tags = {tag["key"]: tag["value"] for tag in process["tags"]}
    assert tags["container.id"] == container["Id"]
    assert tags["container.image.id"] == container["Image"]


def docker_logs(runtime: Docker, name: str) -> str:
    """Return what a container has printed to its standard error."""
    command = [*runtime.command, "logs", name]
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr
