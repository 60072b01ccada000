"""What the other containers of a pod, and the kubelet's logs, have of a container.

A runtime removes the bundle of a container at its end, and that of the pod's sandbox with the pod.
containerd has no count of restarts in a bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.containers import cri
from otel_oom.linux.containers.cgroup_id import ContainerId
from otel_oom.linux.containers.oci_bundle import Bundle
from otel_oom.linux.containers.pod_cgroup import find_pod_cgroup, list_pod_uids
from otel_oom.linux.containers.pod_logs import find_only_container, find_pod_log, read_pod_log
from otel_oom.model.snapshot import Container

_MAX_PODS: Final = 2048
_BUNDLE_GONE: Final = "its bundle is gone, and with it the name of its image"


class PodIndex:
    """The pods of the host's runtimes: a bundle of each. Not safe for use by several threads."""

    def __init__(self) -> None:
        self._bundles: dict[str, Bundle] = {}

    def add(self, bundle: Bundle) -> None:
        """Add the pod of a container or sandbox, if it is in one."""
        uid = cri.find_pod_uid(bundle.container.annotations)
        if uid:
            self._bundles.pop(uid, None)
            self._bundles[uid] = bundle
            while len(self._bundles) > _MAX_PODS:
                del self._bundles[next(iter(self._bundles))]

    def has_pod(self, cgroup: str) -> bool:
        """Return whether the pod of a cgroup is known; true of a cgroup in no pod."""
        uids = list_pod_uids(cgroup)
        return not uids or any(uid in self._bundles for uid in uids)

    def find_sibling(self, container_id: ContainerId, *, whole: bool) -> Bundle | None:
        """Return a bundle whose cgroup is beside that of the container; see :meth:`.Bundle.fits`.

        Root alone makes cgroups there: below a container another one could name them.
        """
        for uid in list_pod_uids(container_id.cgroup):
            bundle = self._bundles.get(uid)
            if bundle:
                beside = container_id.cgroup.replace(container_id.id, bundle.container.id)
                if bundle.fits(beside, whole=whole):
                    return bundle
        return None


def describe_gone(
    container_id: ContainerId, sibling: Bundle | None, roots: Sequence[Path]
) -> Container | None:
    """Return a container of the host as its pod and its log name it; ``None`` if neither does.

    ``sibling`` is of the same pod. Without it the path alone must show that a kubelet made the
    cgroup.
    """
    pod = find_pod_cgroup(container_id.cgroup) if container_id.placed else None
    annotations = cri.select_pod_annotations(sibling.container.annotations) if sibling else {}
    uid = cri.find_pod_uid(annotations) or (pod.uid if pod else None)
    log = find_pod_log(roots, container_id.id) if uid else None
    if log and log.uid != uid:
        log = None
    name = log.container if log else None
    if log:
        annotations = {**cri.annotate_log(log), **annotations}
    elif pod_names := cri.find_pod_names(annotations):
        # Of a container that restarts, the kubelet keeps the latest links alone.
        name = find_only_container(roots, *pod_names)
        annotations |= cri.annotate_container(name) if name else {}
    if not annotations:
        return None
    runtime = sibling.container.runtime if sibling else container_id.runtime
    return Container(
        container_id.id,
        runtime,
        # CRI-O has a name of its own for a container.
        name=name if runtime == "containerd" else None,
        labels=sibling.container.labels if sibling else {},
        annotations=annotations,
        error=_BUNDLE_GONE,
    )


def add_restart_count(container: Container, roots: Sequence[Path]) -> Container:
    """Add the number of restarts by the kubelet's log of a container of the host."""
    names = cri.find_names(container.annotations)
    if names is None or container.scope or cri.RESTART_COUNT in container.annotations:
        return container
    log = read_pod_log(roots, *names, container.id)
    if log is None or log.uid != cri.find_pod_uid(container.annotations):
        return container
    annotations = {**container.annotations, cri.RESTART_COUNT: log.restarts}
    return replace(container, annotations=annotations)
