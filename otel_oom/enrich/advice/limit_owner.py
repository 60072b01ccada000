"""Who has a limit, and the setting by which its reader changes it."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from otel_oom.enrich.kubernetes import Pod, find_pod
from otel_oom.enrich.types import EnrichedKill
from otel_oom.linux.containers.cgroup_id import find_container_ids
from otel_oom.linux.containers.pod_cgroup import find_pod_cgroup
from otel_oom.linux.systemd.units import find_owning_unit
from otel_oom.model.text import quote_text

_RESOURCES: Final = "resources.limits.memory"
_KUBELET: Final = re.compile(r"/(?:[^/]*kubepods[^/]*|burstable|besteffort)\Z")
"""The cgroups of all pods, and of the pods of a class."""
_ID_CHARS: Final = 12
"""As much of an id as the clients of runtimes show."""


class LimitOwner(Struct, frozen=True):
    """The owner of a cgroup, in words, and its setting for the limit of memory.

    ``cgroup_only``: no more than the path of the cgroup is known.
    """

    label: str
    setting: str
    cgroup_only: bool = False

    def __str__(self) -> str:
        return f"{self.setting} of {self.label}"


def find_limit_owner(enriched: EnrichedKill, cgroup: str) -> LimitOwner:
    """Return the owner of a ``cgroup`` of a kill: a container, a pod, a node's pods or a unit.

    What the victim claims of itself does not count.
    """
    return (
        _find_container(enriched, cgroup)
        or _find_in_kubernetes(enriched, cgroup)
        or _find_unit(enriched, cgroup)
        or LimitOwner(quote_text(cgroup), "the limit", cgroup_only=True)
    )


def _find_container(enriched: EnrichedKill, cgroup: str) -> LimitOwner | None:
    id_ = next((each for each in find_container_ids(cgroup) if each.cgroup == cgroup), None)
    parts = (part for part in enriched.containers.parts if part and id_ and part.id == id_.id)
    part = next(parts, None)
    if id_ is None or (part is None and not id_.placed):
        return None
    pod = find_pod(cgroup, part.annotations if part else {})
    name = (pod and pod.container) or (part and part.name)
    label = f"container {quote_text(name) if name else id_.id[:_ID_CHARS]}"
    if pod:
        return LimitOwner(f"{label} of {_label_pod(enriched, pod.uid)}", _RESOURCES)
    return LimitOwner(label, "--memory")


def _find_in_kubernetes(enriched: EnrichedKill, cgroup: str) -> LimitOwner | None:
    """Return a pod, or the node whose kubelet limits all its pods."""
    own = enriched.event.memcg.path if enriched.event.memcg else ""
    uids = [pod.uid for pod in _list_pods(enriched)] or [None]
    for uid in uids:
        pod, own_pod = find_pod_cgroup(cgroup, uid), find_pod_cgroup(own, uid)
        if pod and pod.path == cgroup:
            label = _label_pod(enriched, pod.uid)
            return LimitOwner(f"the containers of {label}", _RESOURCES)
        above = own_pod is not None and own_pod.path.startswith(f"{cgroup}/")
        if above and _KUBELET.search(cgroup):
            label = f"the node, which its kubelet sets on {quote_text(cgroup)}"
            return LimitOwner(label, "the allocatable memory")
    return None


def _list_pods(enriched: EnrichedKill) -> list[Pod]:
    pods = (find_pod("", part.annotations) for part in enriched.containers.parts if part)
    return [pod for pod in pods if pod]


def _label_pod(enriched: EnrichedKill, uid: str | None) -> str:
    for pod in _list_pods(enriched):
        if pod.uid == uid and pod.name and pod.namespace:
            return f"pod {quote_text(pod.name)} in namespace {quote_text(pod.namespace)}"
    return f"the pod with UID {uid}"


def _find_unit(enriched: EnrichedKill, cgroup: str) -> LimitOwner | None:
    unit, setting = find_owning_unit(cgroup), enriched.limit_setting
    if unit is None:
        return None
    decision = enriched.event.decision
    if setting is None or not decision or not decision.memcg or decision.memcg.path != cgroup:
        return LimitOwner(quote_text(unit), "MemoryMax=")
    name = setting.line.partition("=")[0]
    return LimitOwner(f"{quote_text(unit)}, set in {quote_text(str(setting.file))}", f"{name}=")
