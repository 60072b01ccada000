"""Kills in containers of a podman that is not root's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import run_agent
from tests.testlib.containers.image import FILL_MEMORY_IN_CHILD, OPEN_GATE
from tests.testlib.containers.kills import wait_for_kill_log
from tests.testlib.containers.podman import Podman, run_rootless_podman
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.servers.backend import Backend

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Podman]:
    """Podman of a user, with an image."""
    with run_rootless_podman() as running:
        yield running


def killed(runtime: Podman, name: str, backend: Backend) -> None:
    """A rootless container that exceeds a limit, and what is told of it.

    Where a user may set no limit, as on cgroup v1, the container is in its user's own cgroup. The
    limit here is that of a cgroup that knows nothing of containers.
    """
    runtime.run(name, FILL_MEMORY_IN_CHILD, "--detach")
    inspected = runtime.inspect(name)
    with own_memcg() as memcg:
        memcg.procs.write_text(str(inspected["State"]["Pid"]), encoding="ascii")
        runtime.run_in(name, OPEN_GATE)
        log = wait_for_kill_log(backend, inspected["Id"])
    check(log.resource, inspected)
    assert log.attributes["process.parent_pid"] == inspected["State"]["Pid"]
    assert inspected["Id"] not in log.attributes["oom.victim.memcg.path"]
    assert f"in container {name} ({inspected['Id'][:12]})" in log.item.body.string_value


def check(resource: dict[str, Any], inspected: dict[str, Any]) -> None:
    """The resource is what that user's ``podman inspect`` says."""
    name, _, tag = inspected["ImageName"].rpartition(":")
    assert resource["container.id"] == inspected["Id"]
    assert resource["container.name"] == resource["service.name"] == inspected["Name"]
    assert resource["container.runtime.name"] == "podman"
    assert resource["container.image.name"] == name
    assert resource["container.image.tags"] == [tag]
    assert resource["container.image.id"] == inspected["Image"]


def test_a_users_container_is_named_as_podman_names_it(runtime: Podman, tmp_path: Path) -> None:
    """By its monitor, for its cgroup says nothing; those that come later as well."""
    received = Backend()
    with Receiver(received) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(tmp_path, environ) as running:
            running.wait_until_watching()
            for name in ("shop-web", "shop-db"):
                killed(runtime, name, received)


def test_the_container_is_not_roots(runtime: Podman) -> None:
    """What the test is about: the container's processes are a user's, in a user namespace."""
    runtime.run("whose", "exec sleep 100000", "--detach")
    pid = runtime.inspect("whose")["State"]["Pid"]
    assert Path(f"/proc/{pid}").stat().st_uid != os.getuid()
    assert Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
