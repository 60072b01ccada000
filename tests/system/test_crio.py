"""Kills in pods of CRI-O's, and what it says of them by Kubernetes' runtime interface."""

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
    """CRI-O, with an image."""
    with run_crio(*crio_binaries, crictl_binary) as running:
        yield running


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """What an agent sends that was asked for a pod's label."""
    with run_watching_agent(
        tmp_path, OTEL_OOM_CONTAINER_LABELS="app.kubernetes.io/name"
    ) as received:
        yield received


def test_a_container_of_a_pod_is_named_as_cri_o_names_it(runtime: CriO, backend: Backend) -> None:
    """Container, image, pod and service, by the pod's label for the one and nothing else of it."""
    labels = {"app.kubernetes.io/name": "shop", "secret": "hunter2"}
    pod = runtime.start_pod("shop-7d", "prod", labels=labels, annotations={"key": "hunter2"})
    container_id = runtime.start(pod, "web", FILL_MEMORY)
    runtime.run_in(container_id, OPEN_GATE)
    log = wait_for_kill_log(backend, container_id)
    inspected, of_pod = runtime.inspect(container_id), runtime.inspect_pod(pod)["status"]
    runtime.remove(pod)
    status = inspected["status"]
    name, _, tag = status["image"]["image"].rpartition(":")
    expected = {
        "container.id": status["id"],
        "container.name": inspected["info"]["runtimeSpec"]["annotations"][CALLED],
        "container.runtime.name": "cri-o",
        "container.image.name": name,
        "container.image.tags": [tag],
        "k8s.pod.name": of_pod["metadata"]["name"],
        "k8s.pod.uid": of_pod["metadata"]["uid"],
        "k8s.namespace.name": of_pod["metadata"]["namespace"],
        "k8s.container.name": status["metadata"]["name"],
        "k8s.container.restart_count": status["metadata"]["attempt"],
        "container.label.app.kubernetes.io/name": of_pod["labels"]["app.kubernetes.io/name"],
        "service.name": of_pod["labels"]["app.kubernetes.io/name"],
        "service.namespace": of_pod["metadata"]["namespace"],
        "service.version": tag,
    }
    assert {name: log.resource.get(name) for name in expected} == expected
    assert log.resource["container.image.id"] in status["imageRef"] + status["imageId"]
    assert "oom.enrichment.error" not in log.attributes
    assert "hunter2" not in str(log)


CALLED = "io.kubernetes.cri-o.Name"


def test_the_pods_annotation_names_the_service(runtime: CriO, backend: Backend) -> None:
    """It goes before the label."""
    annotations = {"resource.opentelemetry.io/service.name": "annotated"}
    labels = {"app.kubernetes.io/name": "shop"}
    pod = runtime.start_pod("shop-8e", "prod", labels=labels, annotations=annotations)
    container_id = runtime.start(pod, "web", FILL_MEMORY)
    runtime.run_in(container_id, OPEN_GATE)
    log = wait_for_kill_log(backend, container_id)
    told = runtime.inspect_pod(pod)["status"]["annotations"]
    runtime.remove(pod)
    assert log.resource["service.name"] == told["resource.opentelemetry.io/service.name"]
