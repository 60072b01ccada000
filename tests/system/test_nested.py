"""A kill in a container that runs in another container."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import run_agent
from tests.testlib.containers.image import FILL_MEMORY_IN_CHILD, OPEN_GATE
from tests.testlib.containers.kills import wait_for_kill_log
from tests.testlib.containers.nested import run_nested_podman
from tests.testlib.containers.podman import run_podman
from tests.testlib.servers.backend import Backend

pytestmark = pytest.mark.usefixtures("real_kills")


def test_the_victims_container_is_the_inner_one(tmp_path: Path) -> None:
    """Both have their own runtime's values; the inner one is found by its shim.

    Its files are in the outer container only, and its cgroup is in that of the other.
    """
    received = Backend()
    with run_podman() as runtime, Receiver(received) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(tmp_path, environ) as running:
            running.wait_until_watching()
            with run_nested_podman(runtime, "outer-host") as inner:
                inner.run("shop-web", FILL_MEMORY_IN_CHILD, "--memory=24m", "--detach")
                inspected, outer = inner.inspect("shop-web"), runtime.inspect("outer-host")
                inner.run_in("shop-web", OPEN_GATE)
                log = wait_for_kill_log(received, inspected["Id"])
    name, _, tag = inspected["ImageName"].rpartition(":")
    expected = {
        "container.id": inspected["Id"],
        "container.name": inspected["Name"],
        "container.runtime.name": "podman",
        "container.image.name": name,
        "container.image.tags": [tag],
        "container.image.id": inspected["Image"],
        "service.name": inspected["Name"],
    }
    assert {name: log.resource.get(name) for name in expected} == expected
    assert log.attributes["oom.container.host.id"] == outer["Id"]
    assert log.attributes["oom.container.host.name"] == outer["Name"]
    assert str(log.attributes["oom.container.scope"]).endswith(outer["Id"])
    assert "oom.enrichment.error" not in log.attributes
    path = str(log.attributes["oom.victim.memcg.path"])
    assert 0 < path.find(outer["Id"]) < path.find(inspected["Id"])
