"""The ids of containers in a cgroup's path."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from msgspec import Struct

# The last component of the path that names a container, by runtime and cgroup driver:
#   docker      /docker/ID                                 docker-ID.scope
#   podman      /libpod_parent/libpod-ID                   libpod-ID.scope   libpod-payload-ID
#   containerd  /k8s.io/ID, /default/ID                    cri-containerd-ID.scope
#               nerdctl-ID.scope                           …slice:cri-containerd:ID
#   CRI-O       /kubepods/…/podUID/crio-ID                 crio-ID.scope
#   Kubernetes  /kubepods/burstable/podUID/ID (cgroupfs driver, any runtime)
# The cgroup of a shim itself (libpod-conmon-ID.scope, crio-conmon-ID.scope) is not its container's.
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


class ContainerId(Struct, frozen=True):
    """A container's id (64 hexadecimal digits), and its runtime if the path shows it."""

    id: str
    runtime: str | None


def find_container_ids(cgroup_path: str) -> tuple[ContainerId, ...]:
    """Return the containers that ``cgroup_path`` is in, the outermost first."""
    ids = []
    for parent, component in pairwise(cgroup_path.split("/")):
        match = _COMPONENT.fullmatch(component)
        if match:
            prefix = match["prefix"]
            runtime = _RUNTIME_OF_PREFIX[prefix] if prefix else _RUNTIME_OF_PARENT.get(parent)
            ids.append(ContainerId(match["id"], runtime))
    return tuple(ids)


def find_container_id(cgroup_path: str) -> ContainerId | None:
    """Return the innermost container that ``cgroup_path`` is in, if any."""
    ids = find_container_ids(cgroup_path)
    return ids[-1] if ids else None
