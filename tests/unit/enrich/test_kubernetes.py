"""The pod of a victim, by paths of real kubelets and annotations of real runtimes."""

from __future__ import annotations

import pytest

from otel_oom.enrich.kubernetes import find_pod, image_version
from otel_oom.linux.containers.pod_cgroup import find_pod_cgroup

ID = "0123456789abcdef" * 4
UUID = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
USER = "/user.slice/user-1000.slice/user@1000.service"
SLICE = UUID.replace("-", "_")
STATIC = "d4f2f3a1c09b4e7d8f6a5b3c2d1e0f9a"

CONTAINERD = {
    "io.kubernetes.cri.container-name": "server",
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.image-name": "registry.example:5000/shop/checkout:1.4.2",
    "io.kubernetes.cri.sandbox-id": ID,
    "io.kubernetes.cri.sandbox-name": "checkout-7d9f8b6c5-x2k4z",
    "io.kubernetes.cri.sandbox-namespace": "shop",
    "io.kubernetes.cri.sandbox-uid": UUID,
}
CRI_O = {
    "io.container.manager": "cri-o",
    "io.kubernetes.container.name": "server",
    "io.kubernetes.container.restartCount": "7",
    "io.kubernetes.cri-o.ContainerName": f"k8s_server_checkout-7d9f8b6c5-x2k4z_shop_{UUID}_7",
    "io.kubernetes.cri-o.ImageName": "registry.example:5000/shop/checkout:1.4.2",
    "io.kubernetes.pod.name": "checkout-7d9f8b6c5-x2k4z",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": UUID,
}
DOCKER = {
    "annotation.io.kubernetes.container.restartCount": "7",
    "io.kubernetes.container.name": "server",
    "io.kubernetes.docker.type": "container",
    "io.kubernetes.pod.name": "checkout-7d9f8b6c5-x2k4z",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": UUID,
}


@pytest.mark.parametrize(
    ("path", "uid", "qos_class"),
    [
        (f"/kubepods/burstable/pod{UUID}/{ID}", UUID, "Burstable"),
        (f"/kubepods/besteffort/pod{UUID}/{ID}", UUID, "BestEffort"),
        (f"/kubepods/pod{UUID}/{ID}", UUID, "Guaranteed"),
        (f"/kubepods/pod{UUID}", UUID, "Guaranteed"),
        (f"/kubepods/burstable/pod{STATIC}/{ID}", STATIC, "Burstable"),
        (
            (
                f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE}.slice"
                f"/cri-containerd-{ID}.scope"
            ),
            UUID,
            "Burstable",
        ),
        (
            (
                f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICE}.slice"
                f"/crio-{ID}.scope/container"
            ),
            UUID,
            "BestEffort",
        ),
        (f"/kubepods.slice/kubepods-pod{SLICE}.slice/docker-{ID}.scope", UUID, "Guaranteed"),
        (
            (
                f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice"
                f"/cri-containerd-{ID}.scope"
            ),
            STATIC,
            "Burstable",
        ),
        # A kubelet with --cgroup-root=/kubelet.
        (f"/kubelet/kubepods/besteffort/pod{UUID}/{ID}", UUID, "BestEffort"),
        (
            (
                f"/kubelet.slice/kubelet-kubepods.slice"
                f"/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{SLICE}.slice"
                f"/cri-containerd-{ID}.scope"
            ),
            UUID,
            "Burstable",
        ),
        # A kubelet with the systemd driver, and a containerd with the other.
        (
            (
                f"/system.slice/containerd.service/kubepods-burstable-pod{SLICE}.slice"
                f":cri-containerd:{ID}"
            ),
            UUID,
            "Burstable",
        ),
        (f"/kubepods/burstable/pod{UUID[:-1]}/{ID}", None, None),
        (f"/system.slice/pod{UUID}x", None, None),
        # Where others choose the names.
        (f"{USER}/kubepods/burstable/pod{UUID}/{ID}", None, None),
        (f"{USER}/kubepods.slice/kubepods-pod{SLICE}.slice/x", None, None),
        (f"/system.slice/web.service/kubepods-pod{SLICE}.slice", None, None),
        (f"/docker/{ID}/kubepods/burstable/pod{UUID}/{ID}", None, None),
        (f"/node/kubepods/burstable/pod{UUID}/{ID}", None, None),
        (f"…/kubepods/burstable/pod{UUID}/{ID}", None, None),
        ("/", None, None),
    ],
)
def test_pod_uid_and_class_are_in_the_path(
    path: str, uid: str | None, qos_class: str | None
) -> None:
    pod = find_pod(path, {})
    assert (pod.uid if pod else None) == uid
    assert (pod.qos_class if pod else None) == qos_class


@pytest.mark.parametrize(("annotations", "restarts"), [(CONTAINERD, None), (CRI_O, 7), (DOCKER, 7)])
def test_annotations_of_each_runtime_name_the_pod(
    annotations: dict[str, str], restarts: int | None
) -> None:
    pod = find_pod(f"/kubepods/burstable/pod{UUID}/{ID}", annotations)
    assert pod is not None
    expected = {
        "k8s.pod.uid": UUID,
        "k8s.pod.name": "checkout-7d9f8b6c5-x2k4z",
        "k8s.namespace.name": "shop",
        "k8s.container.name": "server",
        "k8s.container.restart_count": restarts,
    }
    assert pod.attributes() == {
        name: value for name, value in expected.items() if value is not None
    }


def test_pod_outside_of_the_kubelets_cgroups_is_found_by_annotations() -> None:
    pod = find_pod(f"/k8s.io/{ID}", CONTAINERD)
    assert pod is not None
    assert (pod.uid, pod.name, pod.qos_class) == (UUID, "checkout-7d9f8b6c5-x2k4z", None)


def test_pause_container_has_no_name() -> None:
    pod = find_pod(f"/kubepods/pod{UUID}/{ID}", {**DOCKER, "io.kubernetes.container.name": "POD"})
    assert pod is not None
    assert pod.container is None


def test_resource_annotations_are_kept_and_bounded() -> None:
    many = {f"resource.opentelemetry.io/x.{n:03}": "y" * 999 for n in range(100)}
    pod = find_pod(f"/kubepods/pod{UUID}/{ID}", {"secret": "hunter2", **many})
    assert pod is not None
    assert pod.annotated_attributes == {f"x.{n:03}": "y" * 256 for n in range(32)}


@pytest.mark.parametrize("count", ["", "-1", "x", "1e3", "9" * 400, "७"])
def test_invalid_restart_count_is_ignored(count: str) -> None:
    pod = find_pod(f"/kubepods/pod{UUID}/{ID}", {"io.kubernetes.container.restartCount": count})
    assert pod is not None
    assert pod.restart_count is None


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("shop/checkout:1.4.2", "1.4.2"),
        ("registry.example:5000/shop/checkout", None),
        ("registry.example:5000/shop/checkout:1.4.2", "1.4.2"),
        ("checkout@sha256:abc", "sha256:abc"),
        ("registry.example:5000/checkout:1.4.2@sha256:abc", "1.4.2@sha256:abc"),
        ("checkout", None),
        ("", None),
    ],
)
def test_image_version_is_tag_and_digest(image: str, version: str | None) -> None:
    assert image_version(image) == version


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/kubepods/pod{UUID}/{ID}", f"/kubepods/pod{UUID}"),
        (
            f"/kubepods.slice/kubepods-pod{SLICE}.slice:crio:x",
            f"/kubepods.slice/kubepods-pod{SLICE}.slice",
        ),
        (f"/node/kubepods/pod{UUID}/{ID}", f"/node/kubepods/pod{UUID}"),
        ("/kubepods.slice/kubepods-burstable.slice", None),
    ],
)
def test_the_cgroup_of_a_pod_is_placed_or_of_the_known_uid(path: str, expected: str | None) -> None:
    """A kubelet's --cgroup-root can be anywhere: its runtime then names the pod."""
    cgroup = find_pod_cgroup(path, UUID)
    assert (cgroup.path if cgroup else None) == expected
