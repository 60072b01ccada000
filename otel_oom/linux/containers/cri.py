"""Containers that Kubernetes' runtime interface has made: what the bundle's annotations say.

containerd: ``pkg/cri/annotations``; CRI-O: ``pkg/annotations``. Of a pod itself, CRI-O has the
annotations among those of its containers, and the labels in the bundle of its sandbox; containerd
has neither in a file. What else stands there may hold secrets, and is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from otel_oom.linux.containers import json_file
from otel_oom.model.container import Container, bounded_text, bounded_texts

_CONTAINERD: Final = "io.kubernetes.cri."
_CRI_O: Final = "io.kubernetes.cri-o."
_RESOURCE: Final = "resource.opentelemetry.io/"
_ID: Final = re.compile(r"[0-9a-f]{64}")

KEPT: Final = frozenset(
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
    """Whether a bundle with ``annotations`` was made by way of the runtime interface."""
    return f"{_CONTAINERD}container-type" in annotations or f"{_CRI_O}ContainerType" in annotations


def sandbox(annotations: Mapping[str, Any]) -> str | None:
    """The id of the sandbox whose bundle tells more of the pod of a container of CRI-O's."""
    found = bounded_text(annotations.get(f"{_CRI_O}SandboxID")) or ""
    return found if _ID.fullmatch(found) else None


def read(
    container_id: str,
    annotations: Mapping[str, Any],
    labels: frozenset[str],
    of_pod: Mapping[str, Any],
) -> Container:
    """The container out of its bundle's annotations, and out of those of its pod's sandbox."""
    kept = bounded_texts(annotations, KEPT)
    if f"{_CRI_O}ContainerType" in annotations:
        own, above = (
            bounded_texts(_labels(annotations), labels),
            bounded_texts(_labels(of_pod), labels),
        )
        return Container(
            container_id,
            "cri-o",
            name=kept.get(f"{_CRI_O}Name"),
            image=kept.get(f"{_CRI_O}ImageName"),
            image_id=bounded_text(annotations.get(f"{_CRI_O}ImageRef")),
            labels={**above, **own},
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
