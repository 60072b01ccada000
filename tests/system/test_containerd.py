"""Kills in pods of containerd's, and what it says of them by Kubernetes' runtime interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.linux.containers import shims
from otel_oom.linux.containers.lookup import ContainerLookup
from tests.testlib.containers.containerd import Containerd, run_containerd
from tests.testlib.containers.kills import run_watching_agent, wait_for_kill_log, wait_for_span
from tests.testlib.servers.backend import Backend

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.fixture(scope="module")
def runtime(crictl_binary: Path) -> Iterator[Containerd]:
    """containerd, with an image."""
    with run_containerd(crictl_binary) as running:
        yield running


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """What an agent sends that was started before a test's containers."""
    with run_watching_agent(tmp_path) as received:
        yield received


def test_a_container_of_a_pod_is_named_as_the_runtime_names_it(
    runtime: Containerd, backend: Backend
) -> None:
    """Its own name, not its pod's or its sandbox's, and the image that it was asked for by."""
    pod = runtime.start_pod("shop-7d", "prod")
    container_id = runtime.start(pod, "web", "exec tail /dev/zero")
    log = wait_for_kill_log(backend, container_id)
    inspected = runtime.inspect(container_id)["status"]
    runtime.remove(pod)
    name, _, tag = inspected["image"]["image"].rpartition(":")
    assert log.resource["container.id"] == inspected["id"]
    assert log.resource["container.name"] == inspected["metadata"]["name"]
    assert log.resource["container.runtime.name"] == "containerd"
    assert log.resource["container.image.name"] == name
    assert log.resource["container.image.tags"] == [tag]
    assert "oom.enrichment.error" not in log.attributes
    assert wait_for_span(backend, log).resource == log.resource


def test_two_containers_of_a_pod_are_told_apart(runtime: Containerd, backend: Backend) -> None:
    """They share one shim, and each kill has its own container's name."""
    pod = runtime.start_pod("shop-8e", "prod")
    ids = {name: runtime.start(pod, name, "exec tail /dev/zero") for name in ("web", "proxy")}
    told = {
        name: wait_for_kill_log(backend, one).resource["container.name"]
        for name, one in ids.items()
    }
    runtime.remove(pod)
    assert told == {"web": "web", "proxy": "proxy"}


def test_the_pod_stands_in_the_annotations(runtime: Containerd) -> None:
    """What Kubernetes calls the container and its pod is kept under the runtime's own names."""
    pod = runtime.start_pod("shop-9f", "prod")
    container_id = runtime.start(pod, "web", "exec sleep 1000")
    finder = ContainerLookup(frozenset())
    place = next(shim.bundle_dir for shim in shims.list_shims() if shim.container_id == pod.sandbox)
    found = finder.read_bundle(container_id, place)
    inspected = runtime.inspect(container_id)
    runtime.remove(pod)
    assert found is not None
    assert found.annotations == inspected["info"]["runtimeSpec"]["annotations"]
    assert found.annotations["io.kubernetes.cri.sandbox-uid"] == pod.uid
