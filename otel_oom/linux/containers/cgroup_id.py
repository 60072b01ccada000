"""The containers of a process, out of its cgroup's path alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

# The last component of the path that names a container, by runtime and cgroup driver:
#   docker      /docker/ID                                 docker-ID.scope
#   podman      /libpod_parent/libpod-ID                   libpod-ID.scope   libpod-payload-ID
#   containerd  /k8s.io/ID, /default/ID                    cri-containerd-ID.scope
#               nerdctl-ID.scope                           …slice:cri-containerd:ID
#   CRI-O       /kubepods/…/podUID/crio-ID                 crio-ID.scope
#   Kubernetes  /kubepods/burstable/podUID/ID (cgroupfs driver, any runtime)
# A monitor's own cgroup (libpod-conmon-ID.scope, crio-conmon-ID.scope) is not its container's.
_COMPONENT: Final = re.compile(
    r"(?:(?:.*:)?(?P<prefix>docker|libpod|libpod-payload|cri-containerd|crio|nerdctl)[-:])?"
    r"(?P<id>[0-9a-f]{64})(?:\.scope)?"
)

_RUNTIME_OF_PREFIX: Final = {
    "docker": "docker",
    "libpod": "podman",
    "libpod-payload": "podman",
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "nerdctl": "containerd",
}
_RUNTIME_OF_PARENT: Final = {"docker": "docker", "k8s.io": "containerd"}


@dataclass(frozen=True, slots=True)
class ContainerId:
    """A container's id (64 hexadecimal digits) and its runtime where the path tells it."""

    id: str
    runtime: str | None


def containers_of(cgroup_path: str) -> tuple[ContainerId, ...]:
    """The containers that ``cgroup_path`` is in, the outermost first."""
    components = cgroup_path.split("/")
    found = []
    for parent, component in pairwise(components):
        match = _COMPONENT.fullmatch(component)
        if match:
            prefix = match["prefix"]
            runtime = _RUNTIME_OF_PREFIX[prefix] if prefix else _RUNTIME_OF_PARENT.get(parent)
            found.append(ContainerId(match["id"], runtime))
    return tuple(found)


def container_of(cgroup_path: str) -> ContainerId | None:
    """The innermost container that ``cgroup_path`` is in, if any."""
    found = containers_of(cgroup_path)
    return found[-1] if found else None
