"""The pod of a container, from its cgroup path and the annotations of its runtime.

The kubelet passes a container's names to the runtime as labels and annotations, which each runtime
keeps under names of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from opentelemetry.util.types import AttributeValue

from otel_oom.linux.containers.pod_cgroup import find_pod_cgroup

_POD_UID: Final = "k8s.pod.uid"
# Names of containerd (pkg/cri/annotations), of the kubelet (pkg/kubelet/types/labels.go), which
# CRI-O keeps, and of cri-dockerd for annotations.
_NAME: Final = ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name")
_NAMESPACE: Final = ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace")
_UID: Final = ("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid")
_CONTAINER: Final = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_RESTARTS: Final = tuple(
    f"{prefix}io.kubernetes.container.restartCount" for prefix in ("", "annotation.")
)
_IMAGE: Final = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName")

WORKLOADS: Final = ("deployment", "replicaset", "statefulset", "daemonset", "cronjob", "job")
"""Owners of a pod, in the order in which they name its service."""

RESOURCE_PREFIX: Final = "resource.opentelemetry.io/"
"""Prefix of the annotations that are resource attributes (semantic conventions)."""

_POD_SUFFIX: Final = re.compile(
    # Of a ReplicaSet or a time of a CronJob, then of the pod itself, or a StatefulSet's number.
    r"(?:-(?:[bcdfghjklmnpqrstvwxz2456789]{6,10}|[0-9]{8,10}))?"
    r"-(?:[bcdfghjklmnpqrstvwxz2456789]{5}|[0-9]{1,5})\Z"
)
"""What controllers add to a pod's name (Kubernetes: ``apimachinery/pkg/util/rand``)."""

_PAUSE: Final = "POD"
"""The kubelet's name of the container that only holds the namespaces of a pod."""
_MAX_ATTRIBUTES: Final = 32
_MAX_CHARS: Final = 256
_COUNT: Final = re.compile(r"[0-9]{1,9}")


class Pod(Struct, frozen=True):
    """A pod and one of its containers; what is not known is ``None``.

    ``uid`` is the node's: a static pod has another in the API. ``restart_count`` is the
    container's. ``image`` is the name of the image in the pod's specification.
    ``annotated_attributes`` are the resource attributes among the annotations.
    """

    uid: str | None = None
    qos_class: str | None = None
    name: str | None = None
    namespace: str | None = None
    container: str | None = None
    restart_count: int | None = None
    image: str | None = None
    annotated_attributes: Mapping[str, str] = {}

    def attributes(self) -> dict[str, str | int]:
        """Return the resource attributes (semantic conventions, ``k8s.*``)."""
        values = {
            _POD_UID: self.uid,
            "k8s.pod.name": self.name,
            "k8s.namespace.name": self.namespace,
            "k8s.container.name": self.container,
            "k8s.container.restart_count": self.restart_count,
        }
        return {name: value for name, value in values.items() if value is not None}


def find_pod(cgroup_path: str, annotations: Mapping[str, str]) -> Pod | None:
    """Find the pod of ``cgroup_path``, with the names from ``annotations``.

    ``annotations`` are those of the container's OCI configuration, or its labels. They alone
    identify a container that the CRI created outside of the kubelet's cgroups.
    """
    uid = _first(annotations, _UID)
    cgroup = find_pod_cgroup(cgroup_path, uid)
    if cgroup is None and uid is None:
        return None
    container = _first(annotations, _CONTAINER)
    restarts = _first(annotations, _RESTARTS) or ""
    return Pod(
        uid=cgroup.uid if cgroup else uid,
        qos_class=cgroup.qos_class if cgroup else None,
        name=_first(annotations, _NAME),
        namespace=_first(annotations, _NAMESPACE),
        container=None if container == _PAUSE else container,
        restart_count=int(restarts) if _COUNT.fullmatch(restarts) else None,
        image=_first(annotations, _IMAGE),
        annotated_attributes=_resource_attributes(annotations),
    )


def find_pod_uid(resource: Mapping[str, AttributeValue]) -> str | None:
    """Return the UID of the pod among the attributes of a resource."""
    uid = resource.get(_POD_UID)
    return uid if isinstance(uid, str) else None


def find_workload(resource: Mapping[str, object]) -> str | None:
    """Return the name of a pod's owner.

    If no attribute has it, it is that of the pod without what a controller adds to it.
    """
    names = (resource.get(f"k8s.{kind}.name") for kind in WORKLOADS)
    if owner := next(filter(None, names), None):
        return str(owner)
    pod = resource.get("k8s.pod.name")
    return None if pod is None else _POD_SUFFIX.sub("", str(pod))


def image_version(image: str) -> str | None:
    """Return the ``service.version`` of an image: its tag and digest, as far as it has them.

    Source: semantic conventions, "How service.version should be calculated".
    """
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if digest:
        return f"{tag}@{digest}" if colon and tag else digest
    return tag or None


def _first(annotations: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    values = (annotations.get(name) for name in names)
    return next((value[:_MAX_CHARS] for value in values if value), None)


def _resource_attributes(annotations: Mapping[str, str]) -> dict[str, str]:
    attributes = {
        name.removeprefix(RESOURCE_PREFIX)[:_MAX_CHARS]: value[:_MAX_CHARS]
        for name, value in sorted(annotations.items())
        if name.startswith(RESOURCE_PREFIX) and name != RESOURCE_PREFIX and value
    }
    return dict(list(attributes.items())[:_MAX_ATTRIBUTES])
