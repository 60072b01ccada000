"""Kills in pods of CRI-O, compared with Kubernetes' runtime interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testlib.containers.crio import CriO, run_crio
from tests.testlib.containers.image import FILL_MEMORY, OPEN_GATE
from tests.testlib.containers.kills import run_watching_agent, wait_for_kill_log
from tests.testlib.servers.backend import Backend

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.fixture(scope="module")
def runtime(crio_binaries: tuple[Path, Path], crictl_binary: Path) -> Iterator[CriO]:
    with run_crio(*crio_binaries, crictl_binary) as running:
        yield running


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """Run an agent that exports one label of pods; return the backend of its telemetry."""
    with run_watching_agent(
        tmp_path, OTEL_OOM_CONTAINER_LABELS="app.kubernetes.io/name"
    ) as received:
        yield received


def test_a_container_has_the_runtimes_own_values(runtime: CriO, backend: Backend) -> None:
    """Container, image, pod and service, with the requested label and nothing else of the pod."""
    labels = {"app.kubernetes.io/name": "shop", "secret": "hunter2"}
    pod = runtime.start_pod("shop-7d", "prod", labels=labels, annotations={"key": "hunter2"})
    container_id = runtime.start(pod, "web", FILL_MEMORY)
    runtime.run_in(container_id, OPEN_GATE)
    log = wait_for_kill_log(backend, container_id)
    inspected, pod_status = runtime.inspect(container_id), runtime.inspect_pod(pod)["status"]
    runtime.remove(pod)
    status = inspected["status"]
    name, _, tag = status["image"]["image"].rpartition(":")
    expected = {
        "container.id": status["id"],
        "container.name": inspected["info"]["runtimeSpec"]["annotations"][CONTAINER_NAME],
        "container.runtime.name": "cri-o",
        "container.image.name": name,
        "container.image.tags": [tag],
        "k8s.pod.name": pod_status["metadata"]["name"],
        "k8s.pod.uid": pod_status["metadata"]["uid"],
        "k8s.namespace.name": pod_status["metadata"]["namespace"],
        "k8s.container.name": status["metadata"]["name"],
        "k8s.container.restart_count": status["metadata"]["attempt"],
        "container.label.app.kubernetes.io/name": pod_status["labels"]["app.kubernetes.io/name"],
        "service.name": pod_status["labels"]["app.kubernetes.io/name"],
        "service.namespace": pod_status["metadata"]["namespace"],
        "service.version": tag,
    }
    assert {name: log.resource.get(name) for name in expected} == expected
    assert log.resource["container.image.id"] in status["imageRef"] + status["imageId"]
    assert "oom.enrichment.error" not in log.attributes
    assert "hunter2" not in str(log)


CONTAINER_NAME = "io.kubernetes.cri-o.Name"


def test_the_pods_annotation_names_the_service(runtime: CriO, backend: Backend) -> None:
    """It has precedence over the label."""
    annotations = {"resource.opentelemetry.io/service.name": "annotated"}
    labels = {"app.kubernetes.io/name": "shop"}
    pod = runtime.start_pod("shop-8e", "prod", labels=labels, annotations=annotations)
    container_id = runtime.start(pod, "web", FILL_MEMORY)
    runtime.run_in(container_id, OPEN_GATE)
    log = wait_for_kill_log(backend, container_id)
    annotations = runtime.inspect_pod(pod)["status"]["annotations"]
    runtime.remove(pod)
    assert log.resource["service.name"] == annotations["resource.opentelemetry.io/service.name"]
