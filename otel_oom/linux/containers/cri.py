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
from otel_oom.model.snapshot import Container

_CONTAINERD: Final = "io.kubernetes.cri."
_CRI_O: Final = "io.kubernetes.cri-o."
_IMAGE_REF: Final = f"{_CRI_O}ImageRef"
_RESOURCE: Final = "resource.opentelemetry.io/"

KEYS: Final = frozenset(
    {
        *(f"{_CONTAINERD}{name}" for name in ("container-type", "container-name", "image-name")),
        *(f"{_CONTAINERD}sandbox-{name}" for name in ("id", "name", "namespace", "uid")),
        *(f"{_CRI_O}{name}" for name in ("ContainerType", "ContainerName", "KubeName", "Name")),
        *(f"{_CRI_O}{name}" for name in ("SandboxID", "SandboxName", "Namespace", "ImageName")),
        *(f"io.kubernetes.pod.{name}" for name in ("name", "namespace", "uid")),
        _IMAGE_REF,
        "io.kubernetes.container.name",
        "io.kubernetes.container.restartCount",
        *(f"{_RESOURCE}service.{name}" for name in ("name", "namespace", "instance.id", "version")),
    }
)


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
    return Container(
        container_id,
        "cri-o" if is_cri_o else "containerd",
        name=annotations.get(name),
        image=annotations.get(image),
        image_id=annotations.get(_IMAGE_REF),
        labels=labels,
        annotations={key: text for key, text in annotations.items() if key != _IMAGE_REF},
    )
