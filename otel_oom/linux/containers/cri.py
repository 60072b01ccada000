"""Containers made through Kubernetes' Container Runtime Interface: their bundle's annotations.

containerd: ``pkg/cri/annotations``; CRI-O: ``pkg/annotations``. CRI-O keeps a pod's annotations
among those of its containers, and a pod's labels in the bundle of its sandbox; containerd keeps
neither in a file. Other annotations may hold secrets and are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.linux.containers.cgroup_id import CONTAINER_ID
from otel_oom.linux.containers.json_file import parse_json, select_texts
from otel_oom.linux.containers.pod_logs import PodLog
from otel_oom.model.snapshot import Container

_CONTAINERD: Final = "io.kubernetes.cri."
_CRI_O: Final = "io.kubernetes.cri-o."
_IMAGE_REF: Final = f"{_CRI_O}ImageRef"
_RESOURCE: Final = "resource.opentelemetry.io/"
RESTART_COUNT: Final = "io.kubernetes.container.restartCount"

KEYS: Final = frozenset(
    {
        *(f"{_CONTAINERD}{name}" for name in ("container-type", "container-name", "image-name")),
        *(f"{_CONTAINERD}sandbox-{name}" for name in ("id", "name", "namespace", "uid")),
        *(f"{_CRI_O}{name}" for name in ("ContainerType", "ContainerName", "KubeName", "Name")),
        *(f"{_CRI_O}{name}" for name in ("SandboxID", "SandboxName", "Namespace", "ImageName")),
        *(f"io.kubernetes.pod.{name}" for name in ("name", "namespace", "uid")),
        _IMAGE_REF,
        "io.kubernetes.container.name",
        RESTART_COUNT,
        *(f"{_RESOURCE}service.{name}" for name in ("name", "namespace", "instance.id", "version")),
    }
)


_POD_UID: Final = ("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid")
_OF_POD: Final = (f"{_CONTAINERD}sandbox-", "io.kubernetes.pod.", _RESOURCE)
"""Prefixes of annotations that all containers of a pod share."""


class _LabelsAnnotation(Struct, frozen=True, rename={"labels": f"{_CRI_O}Labels"}):
    """CRI-O keeps all labels as one annotation in JSON."""

    labels: str = ""


def is_cri(annotations: Mapping[str, str]) -> bool:
    """Return whether a bundle with ``annotations`` was made through the runtime interface."""
    return f"{_CONTAINERD}container-type" in annotations or f"{_CRI_O}ContainerType" in annotations


def find_sandbox_id(annotations: Mapping[str, str]) -> str | None:
    """Return the id of the sandbox whose bundle has a CRI-O pod's labels."""
    sandbox_id = annotations.get(f"{_CRI_O}SandboxID", "")
    return sandbox_id if CONTAINER_ID.fullmatch(sandbox_id) else None


def find_containerd_sandbox(annotations: Mapping[str, str]) -> str | None:
    """Return the id of the sandbox of a container of containerd, or of a sandbox itself."""
    sandbox_id = annotations.get(f"{_CONTAINERD}sandbox-id", "")
    return sandbox_id if CONTAINER_ID.fullmatch(sandbox_id) else None


def find_pod_uid(annotations: Mapping[str, str]) -> str | None:
    """Return the UID of the pod that the runtime names."""
    return next(filter(None, map(annotations.get, _POD_UID)), None)


def find_names(annotations: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return pod, namespace and container of an annotated container of containerd."""
    pod, namespace, container = (
        annotations.get(f"{_CONTAINERD}{name}", "")
        for name in ("sandbox-name", "sandbox-namespace", "container-name")
    )
    return (pod, namespace, container) if pod and namespace and container else None


def select_pod_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return those annotations of a container that its pod's other containers have, too."""
    return {key: text for key, text in annotations.items() if key.startswith(_OF_POD)}


def find_pod_names(annotations: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return name, namespace and UID of the pod that the runtime names."""
    names = tuple(
        annotations.get(f"{_CONTAINERD}sandbox-{key}")
        or annotations.get(f"io.kubernetes.pod.{key}")
        for key in ("name", "namespace", "uid")
    )
    pod, namespace, uid = names
    return (pod, namespace, uid) if pod and namespace and uid else None


def annotate_container(name: str) -> dict[str, str]:
    """Return the name of a container as the kubelet's own annotation."""
    return {"io.kubernetes.container.name": name}


def annotate_log(log: PodLog) -> dict[str, str]:
    """Return the names in the path of a log as the kubelet's own annotations."""
    return {
        "io.kubernetes.pod.name": log.pod,
        "io.kubernetes.pod.namespace": log.namespace,
        "io.kubernetes.pod.uid": log.uid,
        **annotate_container(log.container),
        RESTART_COUNT: log.restarts,
    }


def select_labels(annotations: bytes | str, labels: frozenset[str]) -> Mapping[str, str]:
    """Return those of ``labels`` that CRI-O has among a bundle's ``annotations``, in JSON."""
    annotation = parse_json(annotations, _LabelsAnnotation) if labels else None
    return select_texts(annotation.labels, labels) if annotation else {}


def container_from_annotations(
    container_id: str, annotations: Mapping[str, str], labels: Mapping[str, str]
) -> Container:
    """Build the container from its bundle's annotations by :data:`KEYS`."""
    is_cri_o = f"{_CRI_O}ContainerType" in annotations
    name, image = (
        (f"{_CRI_O}Name", f"{_CRI_O}ImageName")
        if is_cri_o
        else (f"{_CONTAINERD}container-name", f"{_CONTAINERD}image-name")
    )
    # CRI-O copies the annotations of the pod's author, who can use the names of another runtime.
    of_others = _CONTAINERD if is_cri_o else _CRI_O
    return Container(
        container_id,
        "cri-o" if is_cri_o else "containerd",
        name=annotations.get(name),
        image=annotations.get(image),
        image_id=annotations.get(_IMAGE_REF),
        labels=labels,
        annotations={
            key: text
            for key, text in annotations.items()
            if key != _IMAGE_REF and not key.startswith(of_others)
        },
    )
