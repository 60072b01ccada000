"""The containers in a cgroup's path, and those of an event's tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg, Task

CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}")

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

Resolver = Callable[[Task | None, Memcg | None], Sequence[Container]]
"""Returns the containers of a task in a memory cgroup, the outermost first."""


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


def resolve_containers(event: OomEvent, resolver: Resolver) -> EventContainers:
    """Return the containers of an event, those of each task by ``resolver``."""
    if not isinstance(event, OomKill | UserspaceKill):
        containers = resolver(event.trigger, event.trigger_memcg)
        return EventContainers(victim=containers[-1] if containers else None)
    containers = resolver(event.victim, event.memcg)
    inner = containers[-1] if containers else None
    trigger = None
    if event.trigger and event.victim and event.trigger.tgid != event.victim.tgid:
        of_trigger = resolver(event.trigger, event.trigger_memcg)
        if of_trigger and (inner is None or of_trigger[-1].id != inner.id):
            trigger = of_trigger[-1]
    return EventContainers(inner, containers[0] if len(containers) > 1 else None, trigger)


def containers_by_path(event: OomEvent) -> EventContainers:
    """Return the containers that the cgroups' paths alone name."""
    return resolve_containers(event, lambda _, memcg: containers_in_path(memcg))


def containers_in_path(memcg: Memcg | None) -> list[Container]:
    """Return the containers in a cgroup's path, the outermost first."""
    ids = find_container_ids(memcg.path) if memcg else ()
    return [Container(container_id.id, container_id.runtime) for container_id in ids]
