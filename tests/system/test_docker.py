"""Kills in Docker's containers, and what Docker itself says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testlib.containers.docker import IMAGE, Docker, run_docker
from tests.testlib.containers.kills import run_watching_agent, wait_for_kill_log, wait_for_span
from tests.testlib.servers.backend import Backend

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Docker]:
    """Docker, with an image."""
    with run_docker() as running:
        yield running


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """What an agent sends that was started before a test's containers and asks for two labels."""
    with run_watching_agent(tmp_path, OTEL_OOM_CONTAINER_LABELS="team,absent") as received:
        yield received


def check_resource(resource: dict[str, Any], inspected: dict[str, Any]) -> None:
    """The resource is what ``docker inspect`` says."""
    name, _, tag = inspected["Config"]["Image"].rpartition(":")
    assert resource["container.id"] == inspected["Id"]
    assert resource["container.name"] == inspected["Name"].removeprefix("/")
    assert resource["container.runtime.name"] == "docker"
    assert resource["container.image.name"] == name
    assert resource["container.image.tags"] == [tag]
    assert resource["container.image.id"] == inspected["Image"]


def test_a_container_is_named_as_docker_names_it(runtime: Docker, backend: Backend) -> None:
    """Name, image, tag and image id in log and span; of labels the one that was asked for."""
    options = ("--label=team=shop", "--label=secret=hunter2", "--env=PASSWORD=hunter2")
    inspected = runtime.run_until_killed("shop-api", *options)
    log = wait_for_kill_log(backend, inspected["Id"])
    check_resource(log.resource, inspected)
    labels = {k: v for k, v in log.resource.items() if k.startswith("container.label.")}
    assert labels == {"container.label.team": inspected["Config"]["Labels"]["team"]}
    assert "hunter2" not in str(log)
    assert "oom.enrichment.error" not in log.attributes
    assert wait_for_span(backend, log).resource == log.resource


def test_a_container_that_is_removed_at_once_is_named(
    runtime: Docker, backend: Backend, tmp_path: Path
) -> None:
    """With --rm nothing is left of it to ask Docker about."""
    identity = tmp_path / "identity"
    options = ("--rm", "--memory=24m", f"--cidfile={identity}")
    runtime.run("short-lived", "exec tail /dev/zero", *options)
    log = wait_for_kill_log(backend, identity.read_text(encoding="ascii"))
    assert "short-lived" not in runtime.docker("ps", "--all")
    assert log.resource["container.name"] == "short-lived"
    assert f"{log.resource['container.image.name']}:1.2" == IMAGE
