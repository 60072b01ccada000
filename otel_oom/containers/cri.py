"""Containers that Kubernetes' runtime interface has made: what the bundle's annotations say.

containerd: ``pkg/cri/annotations``; CRI-O: ``pkg/annotations``. What else stands there (CRI-O keeps
all of a pod's annotations as one text) may hold secrets, and is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_oom.containers import json_file
from otel_oom.containers.container import Container, text, texts

_CONTAINERD: Final = "io.kubernetes.cri."
_CRI_O: Final = "io.kubernetes.cri-o."

KEPT: Final = frozenset(
    {
        *(f"{_CONTAINERD}{name}" for name in ("container-type", "container-name", "image-name")),
        *(f"{_CONTAINERD}sandbox-{name}" for name in ("id", "name", "namespace", "uid")),
        *(f"{_CRI_O}{name}" for name in ("ContainerType", "ContainerName", "KubeName", "Name")),
        *(f"{_CRI_O}{name}" for name in ("SandboxID", "SandboxName", "Namespace", "ImageName")),
        *(f"io.kubernetes.pod.{name}" for name in ("name", "namespace", "uid")),
        "io.kubernetes.container.name",
        "io.kubernetes.container.restartCount",
        "resource.opentelemetry.io/service.name",
        "resource.opentelemetry.io/service.namespace",
        "resource.opentelemetry.io/service.instance.id",
        "resource.opentelemetry.io/service.version",
    }
)


def is_cri(annotations: Mapping[str, Any]) -> bool:
    """Whether a bundle with ``annotations`` was made by way of the runtime interface."""
    return f"{_CONTAINERD}container-type" in annotations or f"{_CRI_O}ContainerType" in annotations


def read(container_id: str, annotations: Mapping[str, Any], labels: frozenset[str]) -> Container:
    """The container out of its bundle's annotations."""
    kept = texts(annotations, KEPT)
    if f"{_CRI_O}ContainerType" in annotations:
        return Container(
            container_id,
            "cri-o",
            name=kept.get(f"{_CRI_O}Name"),
            image=kept.get(f"{_CRI_O}ImageName"),
            image_id=text(annotations.get(f"{_CRI_O}ImageRef")),
            labels=texts(_labels(annotations), labels),
            annotations=kept,
        )
    return Container(
        container_id,
        "containerd",
        name=kept.get(f"{_CONTAINERD}container-name"),
        image=kept.get(f"{_CONTAINERD}image-name"),
        annotations=kept,
    )


def _labels(annotations: Mapping[str, Any]) -> object:
    """CRI-O has all labels as one annotation, in JSON."""
    labels = annotations.get(f"{_CRI_O}Labels")
    return json_file.parse(labels) if isinstance(labels, str) else None
