"""The holder of an event: the tenant to which it counts, by the victim's cgroup.

A holder is a prefix of the cgroup's path: a pod, a container outside of pods, all of a user, or a
service. It ends at the first component that is no mere parent of tenants. So what a tenant names or
creates below its own cgroup never makes another holder.
"""

from __future__ import annotations

import re
from typing import Final

from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import DroppedEvents, NoVictim, Panic, StoredEvent

UNKNOWN: Final = ""
"""The holder of events whose cgroup is not known, and of those beyond a bound."""

DROPPED: Final = DroppedEvents.kind
"""The holder of the agent's own events about drops."""

# Parents of tenants, which only root creates:
#   systemd     any slice but those of a user and of a pod
#   cgroupfs    /docker/ID  /libpod_parent/libpod-ID  /k8s.io/ID  /default/ID  /lxc/NAME
#   kubelet     /kubelet/kubepods/burstable/podUID
_PARENT: Final = re.compile(
    r".+\.slice|docker|libpod_parent|k8s\.io|default|lxc|kubelet|kubepods|burstable|besteffort"
)
_HOLDER_SLICE: Final = re.compile(r"user-[0-9]+\.slice|(?:.*-)?pod[0-9a-f_]{32,}\.slice")


def find_holder(cgroup_path: str) -> str:
    """Return the part of a path that names its holder; :data:`UNKNOWN` for a path without root."""
    root, *components = cgroup_path.split("/")
    if root or not components:
        return UNKNOWN
    for depth, component in enumerate(components, 1):
        if _HOLDER_SLICE.fullmatch(component) or not _PARENT.fullmatch(component):
            return f"/{'/'.join(components[:depth])}"
    return cgroup_path


def event_holder(event: StoredEvent) -> str:
    """Return the holder of ``event``; an event of the whole host counts to its own kind."""
    if not isinstance(event, OomEvent) or isinstance(event, Panic):
        return event.kind
    memcg = event.trigger_memcg if isinstance(event, NoVictim) else event.memcg
    return find_holder(memcg.path) if memcg else UNKNOWN
