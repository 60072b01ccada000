"""Kills in Docker's containers, compared with `docker inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_oom.otlp.entity_attributes import format_unix_ns
from tests.testlib.containers.docker import IMAGE, Docker, run_docker
from tests.testlib.containers.kills import (
    ARRIVES_S,
    run_watching_agent,
    wait_for_kill_log,
    wait_for_span,
)
from tests.testlib.servers.backend import Backend, Received
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Docker]:
    with run_docker() as running:
        yield running


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """Run an agent that exports two labels, before a test's containers; return its backend."""
    with run_watching_agent(tmp_path, OTEL_OOM_CONTAINER_LABELS="team,absent") as received:
        yield received


def check_resource(resource: dict[str, Any], inspected: dict[str, Any]) -> None:
    """Check the resource against ``docker inspect``."""
    name, _, tag = inspected["Config"]["Image"].rpartition(":")
    assert resource["container.id"] == inspected["Id"]
    assert resource["container.name"] == inspected["Name"].removeprefix("/")
    assert resource["container.runtime.name"] == "docker"
    assert resource["container.image.name"] == name
    assert resource["container.image.tags"] == [tag]
    assert resource["container.image.id"] == inspected["Image"]


def test_a_container_has_dockers_own_values(runtime: Docker, backend: Backend) -> None:
    """In log and span, with the requested label only."""
    options = ("--label=team=shop", "--label=secret=hunter2", "--env=PASSWORD=hunter2")
    inspected = runtime.run_until_killed("shop-api", *options)
    log = wait_for_kill_log(backend, inspected["Id"])
    check_resource(log.resource, inspected)
    labels = {k: v for k, v in log.resource.items() if k.startswith("container.label.")}
    assert labels == {"container.label.team": inspected["Config"]["Labels"]["team"]}
    assert "hunter2" not in str(log)
    assert "oom.enrichment.error" not in log.attributes
    assert wait_for_span(backend, log).resource == log.resource


def test_a_container_that_dies_again_and_again_is_one_story(
    runtime: Docker, backend: Backend
) -> None:
    """Docker restarts it; at last it is created anew, under its name."""
    options = ("--memory=24m", "--detach")
    runtime.run("loop", "exec tail /dev/zero", *options, "--restart=on-failure:2")
    wait_until(lambda: runtime.inspect("loop")["RestartCount"] == 2, "the restarts", limit=60)
    runtime.wait("loop")
    runtime.docker("rm", "loop")
    runtime.run("loop", "exec tail /dev/zero", *options)
    runtime.wait("loop")

    def find() -> list[Received]:
        found = [log for log in backend.logs if log.resource.get("container.name") == "loop"]
        return sorted(found, key=lambda log: log.item.time_unix_nano) if len(found) == 4 else []

    logs = wait_until(find, "the logs of all kills", limit=ARRIVES_S)
    assert [log.attributes["oom.repeat.count"] for log in logs] == [1, 2, 3, 4]
    (first_time,) = {log.attributes["oom.repeat.first_time"] for log in logs}
    assert first_time == format_unix_ns(logs[0].item.time_unix_nano)


def test_a_container_that_is_removed_at_once_has_its_name(
    runtime: Docker, backend: Backend, tmp_path: Path
) -> None:
    """With --rm Docker forgets it at its end."""
    identity = tmp_path / "identity"
    options = ("--rm", "--memory=24m", f"--cidfile={identity}")
    runtime.run("short-lived", "exec tail /dev/zero", *options)
    log = wait_for_kill_log(backend, identity.read_text(encoding="ascii"))
    assert "short-lived" not in runtime.docker("ps", "--all")
    assert log.resource["container.name"] == "short-lived"
    assert f"{log.resource['container.image.name']}:1.2" == IMAGE
