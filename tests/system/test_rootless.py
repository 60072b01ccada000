"""Kills in containers of an unprivileged user's podman."""

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
from tests.testlib.containers.podman import NOBODY, Podman, run_rootless_podman
from tests.testlib.kernel.cgroups import nested_memcg
from tests.testlib.kernel.memcg import MEMCG_LIMIT, own_memcg
from tests.testlib.servers.backend import Backend
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


USER_SLICE = f"/user.slice/user-{NOBODY}.slice"


@pytest.fixture(scope="module")
def runtime() -> Iterator[Podman]:
    # It goes with the cgroups in it, once the containers are gone.
    with nested_memcg(USER_SLICE, 1 << 30), run_rootless_podman() as running:
        yield running


def kill_in_container(runtime: Podman, name: str, backend: Backend) -> None:
    """Exceed a limit in a rootless container, and check what arrives.

    Where a user may set no limit, as on cgroup v1, the container is in its user's own cgroup. The
    limit here is that of a cgroup in the slice of the user.
    """
    runtime.run(name, FILL_MEMORY_IN_CHILD, "--detach")
    inspected = runtime.inspect(name)
    with nested_memcg(f"{USER_SLICE}/{name}.scope", MEMCG_LIMIT) as memcg:
        pid = str(inspected["State"]["Pid"])
        (memcg / "cgroup.procs").write_text(pid, encoding="ascii")
        runtime.run_in(name, OPEN_GATE)
        log = wait_for_kill_log(backend, inspected["Id"])
    check_resource(log.resource, inspected)
    assert log.attributes["oom.container.scope"] == USER_SLICE
    assert log.attributes["process.parent_pid"] == inspected["State"]["Pid"]
    assert inspected["Id"] not in log.attributes["oom.victim.memcg.path"]
    assert f"in container {name} ({inspected['Id'][:12]})" in log.item.body.string_value


def check_resource(resource: dict[str, Any], inspected: dict[str, Any]) -> None:
    """Check the resource against that user's ``podman inspect``."""
    name, _, tag = inspected["ImageName"].rpartition(":")
    assert resource["container.id"] == inspected["Id"]
    assert resource["container.name"] == resource["service.name"] == inspected["Name"]
    assert resource["container.runtime.name"] == "podman"
    assert resource["container.image.name"] == name
    assert resource["container.image.tags"] == [tag]
    assert resource["container.image.id"] == inspected["Image"]


def test_a_rootless_container_has_podmans_own_values(runtime: Podman, tmp_path: Path) -> None:
    """Found by its conmon, since its cgroup has no id; later containers as well."""
    received = Backend()
    with Receiver(received) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(tmp_path, environ) as running:
            running.wait_until_watching()
            for name in ("shop-web", "shop-db"):
                kill_in_container(runtime, name, received)


def test_a_users_runtime_describes_nothing_outside_of_the_users_slice(
    runtime: Podman, tmp_path: Path
) -> None:
    """It could claim to run any container of others there."""
    received = Backend()
    with Receiver(received) as receiver, own_memcg() as memcg:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(tmp_path, environ) as running:
            running.wait_until_watching()
            runtime.run("elsewhere", FILL_MEMORY_IN_CHILD, "--detach")
            pid = runtime.inspect("elsewhere")["State"]["Pid"]
            memcg.procs.write_text(str(pid), encoding="ascii")
            runtime.run_in("elsewhere", OPEN_GATE)
            (log,) = wait_until(
                lambda: [
                    log
                    for log in received.logs
                    if log.attributes.get("oom.victim.memcg.path") == memcg.path
                ],
                "the kill's log",
            )
    assert log.attributes["process.parent_pid"] == pid
    assert not [name for name in log.resource if name.startswith("container.")]


def test_the_container_runs_as_an_unprivileged_user(runtime: Podman) -> None:
    """The premise of the test above."""
    runtime.run("idle-user", "exec sleep 100000", "--detach")
    pid = runtime.inspect("idle-user")["State"]["Pid"]
    assert Path(f"/proc/{pid}").stat().st_uid != os.getuid()
    assert Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
