"""The pod of a container, from its cgroup path and the annotations of its runtime.

The kubelet creates a cgroup for each pod, below that of its quality-of-service class:

=========  =====================================================================
driver     path
=========  =====================================================================
cgroupfs   ``/kubepods/burstable/podUID/…``, guaranteed: ``/kubepods/podUID/…``
systemd    ``/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/…``
=========  =====================================================================

below ``--cgroup-root`` if set, and with ``_`` for ``-`` in the UIDs of the systemd driver. Source:
kubernetes, ``pkg/kubelet/cm/``. It passes a container's names to the runtime as labels and
annotations, which each runtime keeps under names of its own. The owner of any other cgroup can
give the same names to those below it, so they count only where a kubelet puts them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from opentelemetry.util.types import AttributeValue

_POD: Final = re.compile(
    r"(?:(?P<parents>(?:[\w.]+-)*kubepods(?:-\w+)?)-)?pod"
    r"(?P<uid>[0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?:\.slice)?"
)
"""The UID of a static pod is a hash of 32 digits, any other a UUID."""

_KUBELET: Final = re.compile(
    r"(?:(?:/[^/]+\.slice)*/(?:[\w.]+-)*kubepods(?:-\w+)?-pod[0-9a-f_]+\.slice(?=[:/]|\Z)"
    r"|/system\.slice/containerd\.service/kubepods(?:-\w+)?-pod[0-9a-f_]+\.slice(?=:)"
    r"|(?:/kubelet)?/kubepods(?:/burstable|/besteffort)?/pod[0-9a-f-]+(?=/|\Z))"
)
"""Where root alone makes cgroups: the parents of a pod, up to its own."""

_POD_UID: Final = "k8s.pod.uid"
_CLASS: Final = {"burstable": "Burstable", "besteffort": "BestEffort"}
_GUARANTEED: Final = "Guaranteed"

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


class PodCgroup(Struct, frozen=True):
    """The cgroup of a pod: its path, and the UID and the quality-of-service class in it."""

    path: str
    uid: str
    qos_class: str | None


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


def find_pod_cgroup(cgroup_path: str, known_uid: str | None = None) -> PodCgroup | None:
    """Find the cgroup of a pod in a path: where a kubelet puts it, or of the pod ``known_uid``.

    A kubelet with an unusual ``--cgroup-root`` puts it elsewhere.
    """
    match = _KUBELET.match(cgroup_path)
    placed = match[0] if match else None
    components = cgroup_path.split("/")
    for index in range(1, len(components)):
        # A runtime with the other driver appends its own names to the pod's slice, after a colon.
        component = components[index].partition(":")[0]
        pod = _POD.fullmatch(component)
        path = "/".join((*components[:index], component))
        uid = pod["uid"].replace("_", "-") if pod else None
        if pod and uid and (path == placed or uid == known_uid):
            parent = pod["parents"] or components[index - 1]
            last = parent.rpartition("-")[2]
            guaranteed = _GUARANTEED if last == "kubepods" else None
            return PodCgroup(path, uid, _CLASS.get(last, guaranteed))
    return None


def find_pod_uid(resource: Mapping[str, AttributeValue]) -> str | None:
    """Return the UID of the pod among the attributes of a resource."""
    uid = resource.get(_POD_UID)
    return uid if isinstance(uid, str) else None


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
