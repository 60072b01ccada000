"""A kill in a container that runs in another: both are named, each as its own runtime names it."""

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


def test_the_inner_container_is_the_victims_and_the_outer_one_is_told(tmp_path: Path) -> None:
    """The inner one's files are in the outer one alone, and are found by way of its monitor.

    The cgroup of the one is in that of the other.
    """
    received = Backend()
    with run_podman() as runtime, Receiver(received) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(tmp_path, environ) as running:
            running.wait_until_watching()
            with run_nested_podman(runtime, "outer-host") as inner:
                inner.run("shop-web", FILL_MEMORY_IN_CHILD, "--memory=24m", "--detach")
                inspected, around = inner.inspect("shop-web"), runtime.inspect("outer-host")
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
    assert log.attributes["oom.container.host.id"] == around["Id"]
    assert log.attributes["oom.container.host.name"] == around["Name"]
    assert "oom.enrichment.error" not in log.attributes
    path = str(log.attributes["oom.victim.memcg.path"])
    assert 0 < path.find(around["Id"]) < path.find(inspected["Id"])
