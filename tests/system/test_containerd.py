"""Kills in pods of containerd, compared with Kubernetes' runtime interface."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.linux.containers import shims
from otel_oom.linux.containers.lookup import ContainerLookup
from tests.testlib.command import mount_namespace, run_command
from tests.testlib.containers.containerd import Containerd, run_containerd
from tests.testlib.containers.kills import run_watching_agent, wait_for_kill_log, wait_for_span
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.backend import Backend

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.fixture(scope="module")
def runtime(crictl_binary: Path) -> Iterator[Containerd]:
    with run_containerd(crictl_binary) as running:
        yield running


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """Run an agent before a test's containers; return the backend of its telemetry."""
    with run_watching_agent(tmp_path) as received:
        yield received


def test_a_container_has_the_runtimes_own_values(runtime: Containerd, backend: Backend) -> None:
    """Its own name, not its pod's or its sandbox's, and the image by which it was requested."""
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
    assert log.resource["container.image.id"] == inspected["imageRef"]
    assert log.resource["k8s.container.restart_count"] == inspected["metadata"]["attempt"]
    assert "oom.enrichment.error" not in log.attributes
    assert wait_for_span(backend, log).resource == log.resource


def test_containers_of_a_pod_have_their_own_names(runtime: Containerd, backend: Backend) -> None:
    """They share one shim."""
    pod = runtime.start_pod("shop-8e", "prod")
    ids = {name: runtime.start(pod, name, "exec tail /dev/zero") for name in ("web", "proxy")}
    names = {
        name: wait_for_kill_log(backend, container_id).resource["container.name"]
        for name, container_id in ids.items()
    }
    runtime.remove(pod)
    assert names == {"web": "web", "proxy": "proxy"}


def test_annotations_are_those_of_the_runtime(runtime: Containerd) -> None:
    """With the pod's uid."""
    pod = runtime.start_pod("shop-9f", "prod")
    container_id = runtime.start(pod, "web", "exec sleep 1000")
    lookup = ContainerLookup(frozenset())
    place = next(shim.bundle_dir for shim in shims.list_shims() if shim.container_id == pod.sandbox)
    bundle = lookup.read_bundle(container_id, place)
    inspected = runtime.inspect(container_id)
    runtime.remove(pod)
    assert bundle is not None
    container = bundle.container
    assert container.annotations == inspected["info"]["runtimeSpec"]["annotations"]
    assert container.annotations["io.kubernetes.cri.sandbox-uid"] == pod.uid


@pytest.mark.parametrize(
    "state",
    [
        # k3s and RKE2, k0s, MicroK8s: their own sources name these.
        "/run/k3s/containerd",
        "/run/k0s/containerd",
        "/var/snap/microk8s/common/run/containerd",
    ],
)
def test_state_of_a_distribution_is_found(state: str, runtime: Containerd, tmp_path: Path) -> None:
    """A running pod is read from there, by the default directories alone: /proc is empty."""
    pod = runtime.start_pod("shop-a1", "prod")
    container_id = runtime.start(pod, "web", "exec sleep 1000")
    own = runtime.process.folder / "state"
    # Another directory of the same containerd: those of this host are hidden.
    prefix = mount_namespace(
        f"mount --bind {own} {tmp_path}",
        f"mount -t tmpfs none {'/run' if state.startswith('/run') else '/var'}",
        f"mkdir -p {state}",
        f"mount --bind {tmp_path} {state}",
    )
    arguments = (container_id, str(tmp_path / "none"))
    command = [*prefix, sys.executable, "-c", _READ_BUNDLE, *arguments]
    done = run_command(command, cwd=REPOSITORY)
    expected = runtime.inspect(container_id)["status"]["metadata"]["name"]
    runtime.remove(pod)
    assert (done.out.split(), done.err) == ([state, expected], "")


_READ_BUNDLE = """
import sys
from pathlib import Path
from otel_oom.linux.containers.lookup import ContainerLookup
lookup = ContainerLookup(frozenset(), Path(sys.argv[2]))
for bundle_dir in lookup.bundle_dirs():
    bundle = lookup.read_bundle(sys.argv[1], bundle_dir)
    if bundle:
        print(bundle_dir.folder.parents[1], bundle.container.name)
"""
