"""Kills in podman's containers, compared with `podman inspect`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import run_agent
from tests.testlib.containers.kills import (
    ARRIVES_S,
    run_watching_agent,
    wait_for_kill_log,
    wait_for_span,
)
from tests.testlib.containers.podman import IMAGE, Podman, run_podman
from tests.testlib.kernel.cgroups import nested_memcg
from tests.testlib.servers.backend import Backend
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

KEEP_MEMORY = "dd if=/dev/zero bs={bytes} | (head -c 1 >/dev/null; echo full; sleep 1000)"
"""Keeps so many bytes, since nobody reads them, and prints a word once it has them."""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Podman]:
    with run_podman() as running:
        yield running


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """Run an agent before a test's containers; return the backend of its telemetry."""
    with run_watching_agent(tmp_path) as received:
        yield received


def check_resource(resource: dict[str, Any], inspected: dict[str, Any]) -> None:
    """Check the resource against ``podman inspect``."""
    name, _, tag = inspected["ImageName"].rpartition(":")
    assert resource["container.id"] == inspected["Id"]
    assert resource["container.name"] == inspected["Name"]
    assert resource["container.runtime.name"] == "podman"
    assert resource["container.image.name"] == name
    assert resource["container.image.tags"] == [tag]
    assert resource["container.image.id"] == inspected["Image"]


def test_a_container_has_podmans_own_values(runtime: Podman, backend: Backend) -> None:
    """In log and span; the body has its name."""
    inspected = runtime.run_until_killed("shop-web")
    log = wait_for_kill_log(backend, inspected["Id"])
    check_resource(log.resource, inspected)
    assert f"in container shop-web ({inspected['Id'][:12]})" in log.item.body.string_value
    assert "oom.enrichment.error" not in log.attributes
    assert wait_for_span(backend, log).resource == log.resource


def test_a_container_that_is_removed_at_once_has_its_name(
    runtime: Podman, backend: Backend
) -> None:
    """With --rm podman forgets it at its end."""
    identity = runtime.folder / "identity"
    runtime.run(
        "short-lived", "exec tail /dev/zero", "--rm", "--memory=24m", f"--cidfile={identity}"
    )
    log = wait_for_kill_log(backend, identity.read_text(encoding="ascii").strip())
    assert not runtime.exists("short-lived")
    assert log.resource["container.name"] == "short-lived"
    assert f"{log.resource['container.image.name']}:latest" == IMAGE


def test_environment_labels_and_command_stay_on_the_host(runtime: Podman, backend: Backend) -> None:
    """By default."""
    options = ("--env=PASSWORD=hunter2", "--label=key=hunter2", "--annotation=key=hunter2")
    inspected = runtime.run_until_killed("discreet", *options)
    log = wait_for_kill_log(backend, inspected["Id"])
    assert "hunter2" in str(inspected)
    assert "hunter2" not in str(log)


def test_victim_and_trigger_have_their_own_containers(runtime: Podman, backend: Backend) -> None:
    """In a cgroup with two containers one allocates, and the larger one is killed."""
    with nested_memcg(f"/otel-oom-shared-{os.getpid()}", 32 << 20) as memcg:
        parent = f"--cgroup-parent=/{memcg.name}"
        runtime.run("large", KEEP_MEMORY.format(bytes=20 << 20), parent, "--detach")
        wait_until(lambda: runtime.logs("large"), "the larger container's memory", limit=ARRIVES_S)
        large = runtime.inspect("large")
        runtime.run("greedy", "exec tail /dev/zero", parent)
        greedy = runtime.inspect("greedy")
        log = wait_for_kill_log(backend, large["Id"])
        other = wait_for_kill_log(backend, greedy["Id"])
        runtime.remove("large", "greedy")
    check_resource(log.resource, large)
    assert log.attributes["oom.trigger.container.id"] == greedy["Id"]
    assert log.attributes["oom.trigger.container.name"] == "greedy"
    assert f"in container greedy ({greedy['Id'][:12]}) requested" in log.item.body.string_value
    # The second was killed for its own allocation.
    assert "oom.trigger.container.id" not in other.attributes


def test_labels_come_from_the_api(runtime: Podman, tmp_path: Path) -> None:
    """Podman's files lack labels and its version."""
    received = Backend()
    with runtime.run_api() as address, Receiver(received) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_OOM_CONTAINER_LABELS": "team",
            "CONTAINER_HOST": f"unix://{address}",
        }
        with run_agent(tmp_path, environ) as running:
            running.wait_until_watching()
            options = ("--label=team=shop", "--label=secret=hunter2")
            runtime.run("labelled", "exec tail /dev/zero", "--memory=24m", *options)
            inspected = runtime.inspect("labelled")
            log = wait_for_kill_log(received, inspected["Id"])
            runtime.remove("labelled")
    check_resource(log.resource, inspected)
    assert log.resource["container.label.team"] == inspected["Config"]["Labels"]["team"]
    assert "hunter2" not in str(log)
    assert log.resource["container.runtime.version"] == runtime.version()
