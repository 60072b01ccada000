"""The holder of a cgroup: the tenant to which it and all below it count.

A holder is a prefix of the path: a pod, a container outside of pods, all of a user, or a service.
It ends at the first component that is no mere parent of tenants. So what a tenant names or creates
below its own cgroup never makes another holder.
"""

from __future__ import annotations

import re
from typing import Final

UNKNOWN: Final = ""
"""The holder of cgroups that are not known."""

# Parents of tenants, in which only root creates cgroups:
#   systemd     any slice but those of a user and of a pod
#   cgroupfs    /docker/ID  /libpod_parent/libpod-ID  /k8s.io/ID  /default/ID  /ecs/TASK
#   others      /lxc/NAME  /machine/NAME
#   kubelet     /kubelet/kubepods/burstable/podUID
#   runtimes    /system.slice/containerd.service/ID
_PARENT: Final = re.compile(
    r".+\.slice|(?:containerd|docker|crio)\.service"
    r"|docker|libpod_parent|k8s\.io|default|ecs|lxc|machine|kubelet|kubepods|burstable|besteffort"
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
