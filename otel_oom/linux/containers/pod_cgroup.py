"""The cgroup of a pod, in the path of a cgroup.

The kubelet creates a cgroup for each pod, below that of its quality-of-service class:

=========  =====================================================================
driver     path
=========  =====================================================================
cgroupfs   ``/kubepods/burstable/podUID/…``, guaranteed: ``/kubepods/podUID/…``
systemd    ``/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/…``
=========  =====================================================================

below ``--cgroup-root`` if set, and with ``_`` for ``-`` in the UIDs of the systemd driver. Source:
kubernetes, ``pkg/kubelet/cm/``. The owner of any other cgroup can give the same names to those
below it, so they count only where a kubelet puts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

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

_CLASS: Final = {"burstable": "Burstable", "besteffort": "BestEffort"}
_GUARANTEED: Final = "Guaranteed"


class PodCgroup(Struct, frozen=True):
    """The cgroup of a pod: its path, and the UID and the quality-of-service class in it."""

    path: str
    uid: str
    qos_class: str | None


def find_pod_cgroup(cgroup_path: str, known_uid: str | None = None) -> PodCgroup | None:
    """Find the cgroup of a pod in a path: where a kubelet puts it, or of the pod ``known_uid``.

    A kubelet with an unusual ``--cgroup-root`` puts it elsewhere.
    """
    match = _KUBELET.match(cgroup_path)
    placed = match[0] if match else None
    pods = _find_all(cgroup_path)
    return next((pod for pod in pods if pod.path == placed or pod.uid == known_uid), None)


def list_pod_uids(cgroup_path: str) -> list[str]:
    """Return what may be the UID of a pod in a path, wherever it is."""
    return [pod.uid for pod in _find_all(cgroup_path)]


def _find_all(cgroup_path: str) -> Iterator[PodCgroup]:
    components = cgroup_path.split("/")
    for index in range(1, len(components)):
        # A runtime with the other driver appends its own names to the pod's slice, after a colon.
        component = components[index].partition(":")[0]
        pod = _POD.fullmatch(component)
        if pod:
            parent = pod["parents"] or components[index - 1]
            last = parent.rpartition("-")[2]
            guaranteed = _GUARANTEED if last == "kubepods" else None
            path = "/".join((*components[:index], component))
            yield PodCgroup(path, pod["uid"].replace("_", "-"), _CLASS.get(last, guaranteed))
