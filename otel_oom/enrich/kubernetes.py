"""The pod of a container, out of its cgroup's path and what the runtime noted on it.

The kubelet makes a cgroup for each pod, in one of its quality-of-service class:

=========  =====================================================================
driver     path
=========  =====================================================================
cgroupfs   ``/kubepods/burstable/podUID/…``, guaranteed: ``/kubepods/podUID/…``
systemd    ``/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/…``
=========  =====================================================================

below ``--cgroup-root`` if it is set, and with ``_`` for ``-`` in the systemd driver's UIDs. Source:
kubernetes, ``pkg/kubelet/cm/``. It hands a container's names to the runtime as labels and
annotations, which the runtimes keep under names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_POD: Final = re.compile(
    r"(?:(?P<parents>(?:[\w.]+-)*kubepods(?:-\w+)?)-)?pod"
    r"(?P<uid>[0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?:\.slice)?"
)
"""A static pod's UID is a hash of 32 digits, any other's a UUID."""

_CLASS: Final = {"burstable": "Burstable", "besteffort": "BestEffort"}
_GUARANTEED: Final = "Guaranteed"

# Where each runtime has it: containerd (pkg/cri/annotations), the kubelet's own names
# (pkg/kubelet/types/labels.go), which CRI-O keeps, and cri-dockerd's for annotations.
_NAME: Final = ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name")
_NAMESPACE: Final = ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace")
_UID: Final = ("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid")
_CONTAINER: Final = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_RESTARTS: Final = (
    "io.kubernetes.container.restartCount",
    "annotation.io.kubernetes.container.restartCount",
)
_IMAGE: Final = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName")

RESOURCE: Final = "resource.opentelemetry.io/"
"""The prefix of a pod's annotations that are resource attributes (semantic conventions)."""

_PAUSE: Final = "POD"
"""What the kubelet calls the container that only holds a pod's namespaces."""
_MOST_OWN: Final = 32
_MOST_CHARS: Final = 256
_COUNT: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, and the container of it; ``None`` is not known.

    ``uid`` is the node's own: that of a static pod is another than its mirror's in the API.
    ``restarts`` is how often the container had been restarted. ``image`` is the image's name as
    the pod's author wrote it. ``own`` are the resource attributes among the pod's annotations.
    """

    uid: str | None = None
    qos_class: str | None = None
    name: str | None = None
    namespace: str | None = None
    container: str | None = None
    restarts: int | None = None
    image: str | None = None
    own: Mapping[str, str] = field(default_factory=dict)

    def attributes(self) -> dict[str, str | int]:
        """Its resource attributes (semantic conventions, ``k8s.*``)."""
        known = {
            "k8s.pod.uid": self.uid,
            "k8s.pod.name": self.name,
            "k8s.namespace.name": self.namespace,
            "k8s.container.name": self.container,
            "k8s.container.restart_count": self.restarts,
        }
        return {name: value for name, value in known.items() if value is not None}


def pod_of(cgroup_path: str, annotations: Mapping[str, str]) -> Pod | None:
    """The innermost pod that ``cgroup_path`` is in; what is noted of its container names it.

    ``annotations`` are those of the container's OCI configuration, or its labels. A container that
    the CRI made outside of the kubelet's cgroups is known by them alone.
    """
    uid, qos_class = _of_path(cgroup_path)
    uid = uid or _first(annotations, _UID)
    if uid is None:
        return None
    container = _first(annotations, _CONTAINER)
    restarts = _first(annotations, _RESTARTS) or ""
    return Pod(
        uid=uid,
        qos_class=qos_class,
        name=_first(annotations, _NAME),
        namespace=_first(annotations, _NAMESPACE),
        container=None if container == _PAUSE else container,
        restarts=int(restarts) if _COUNT.fullmatch(restarts) else None,
        image=_first(annotations, _IMAGE),
        own=_own(annotations),
    )


def is_pod(component: str) -> bool:
    """Whether this component of a cgroup's path is a pod's own cgroup."""
    return _POD.fullmatch(component) is not None


def image_version(image: str) -> str | None:
    """``service.version`` by an image's name: its tag and digest, as far as it has them.

    Source: semantic conventions, "How service.version should be calculated".
    """
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if digest:
        return f"{tag}@{digest}" if colon and tag else digest
    return tag or None


def _of_path(cgroup_path: str) -> tuple[str | None, str | None]:
    """UID and quality-of-service class of the innermost pod."""
    components = cgroup_path.split("/")
    for at in range(len(components) - 1, 0, -1):
        # Behind a colon is what a runtime of the other driver made of the pod's slice.
        found = _POD.fullmatch(components[at].partition(":")[0])
        if found:
            parent = found["parents"] or components[at - 1]
            last = parent.rpartition("-")[2]
            guaranteed = _GUARANTEED if last == "kubepods" else None
            return found["uid"].replace("_", "-"), _CLASS.get(last, guaranteed)
    return None, None


def _first(annotations: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    values = (annotations.get(name) for name in names)
    return next((value[:_MOST_CHARS] for value in values if value), None)


def _own(annotations: Mapping[str, str]) -> dict[str, str]:
    own = {
        name.removeprefix(RESOURCE)[:_MOST_CHARS]: value[:_MOST_CHARS]
        for name, value in sorted(annotations.items())
        if name.startswith(RESOURCE) and name != RESOURCE and value
    }
    return dict(list(own.items())[:_MOST_OWN])
