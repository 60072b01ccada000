"""Containers made through Kubernetes' Container Runtime Interface: their bundle's annotations.

containerd: ``pkg/cri/annotations``; CRI-O: ``pkg/annotations``. CRI-O keeps a pod's annotations
among those of its containers, and a pod's labels in the bundle of its sandbox; containerd keeps
neither in a file. Other annotations may hold secrets and are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_oom.linux.containers.cgroup_id import CONTAINER_ID
from otel_oom.linux.containers.json_file import as_text, parse_json, select_texts
from otel_oom.model.snapshot import Container

_CONTAINERD: Final = "io.kubernetes.cri."
_CRI_O: Final = "io.kubernetes.cri-o."
_RESOURCE: Final = "resource.opentelemetry.io/"

KEYS: Final = frozenset(
    {
        *(f"{_CONTAINERD}{name}" for name in ("container-type", "container-name", "image-name")),
        *(f"{_CONTAINERD}sandbox-{name}" for name in ("id", "name", "namespace", "uid")),
        *(f"{_CRI_O}{name}" for name in ("ContainerType", "ContainerName", "KubeName", "Name")),
        *(f"{_CRI_O}{name}" for name in ("SandboxID", "SandboxName", "Namespace", "ImageName")),
        *(f"io.kubernetes.pod.{name}" for name in ("name", "namespace", "uid")),
        "io.kubernetes.container.name",
        "io.kubernetes.container.restartCount",
        *(f"{_RESOURCE}service.{name}" for name in ("name", "namespace", "instance.id", "version")),
    }
)


def is_cri(annotations: Mapping[str, Any]) -> bool:
    """Return whether a bundle with ``annotations`` was made through the runtime interface."""
    return f"{_CONTAINERD}container-type" in annotations or f"{_CRI_O}ContainerType" in annotations


def find_sandbox_id(annotations: Mapping[str, Any]) -> str | None:
    """Return the id of the sandbox whose bundle has a CRI-O pod's labels."""
    sandbox_id = as_text(annotations.get(f"{_CRI_O}SandboxID")) or ""
    return sandbox_id if CONTAINER_ID.fullmatch(sandbox_id) else None


def container_from_annotations(
    container_id: str,
    annotations: Mapping[str, Any],
    sandbox_annotations: Mapping[str, Any],
    labels: frozenset[str],
) -> Container:
    """Build the container from its bundle's annotations, and those of its pod's sandbox."""
    selected = select_texts(annotations, KEYS)
    if f"{_CRI_O}ContainerType" in annotations:
        pod_labels = select_texts(_cri_o_labels(sandbox_annotations), labels)
        return Container(
            container_id,
            "cri-o",
            name=selected.get(f"{_CRI_O}Name"),
            image=selected.get(f"{_CRI_O}ImageName"),
            image_id=as_text(annotations.get(f"{_CRI_O}ImageRef")),
            labels={**pod_labels, **select_texts(_cri_o_labels(annotations), labels)},
            annotations=selected,
        )
    return Container(
        container_id,
        "containerd",
        name=selected.get(f"{_CONTAINERD}container-name"),
        image=selected.get(f"{_CONTAINERD}image-name"),
        annotations=selected,
    )


def _cri_o_labels(annotations: Mapping[str, Any]) -> object:
    """Return all labels, which CRI-O keeps as one annotation in JSON."""
    return parse_json(annotations.get(f"{_CRI_O}Labels"))
