"""The containers in a cgroup's path, and those of an event's tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
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
_PREFIX: Final = "(?:docker|libpod|libpod-payload|cri-containerd|crio|nerdctl)"
_ID: Final = "[0-9a-f]{64}"
_COMPONENT: Final = re.compile(rf"(?:(?:.*:)?(?P<prefix>{_PREFIX})[-:])?(?P<id>{_ID})(?:\.scope)?")

# Root alone makes these cgroups. A slice that systemd makes for a user is root's; what is below
# that user's manager, or below a service, may belong to anybody.
RUNTIME_UNIT: Final = r"(?:/system\.slice/(?:containerd|docker|crio)\.service)"
"""The cgroups in which runtimes run, as a regular expression."""
_PLACED: Final = re.compile(
    # Podman's crun adds a cgroup in which the container is the root.
    r"(?:(?<=.)/container)?(?:"
    rf"(?:/[^/]+\.slice)+/{_PREFIX}-{_ID}\.scope"
    rf"|{RUNTIME_UNIT}?/[^/]*:{_PREFIX}:{_ID}"
    rf"|{RUNTIME_UNIT}/{_ID}"
    rf"|/(?:docker|k8s\.io|default)/{_ID}"
    rf"|/libpod_parent/(?:{_ID}/)?libpod-{_ID}"
    rf"|(?:/kubelet)?/kubepods(?:/burstable|/besteffort)?/pod[0-9a-f-]+/(?:crio-)?{_ID}"
    r")(?=/|\Z)"
)
_GUEST: Final = re.compile(
    r"(?:/lxc/[^/]+|/lxc\.payload\.[^/]+"
    r"|/machine\.slice/(?:machine-[^/]+\.scope|systemd-nspawn@[^/]+\.service))"
    r"(?:/ns|/payload)?(?=/)"
)
"""A system container of LXC or systemd-nspawn: runtimes in it are as on a host of their own."""
_COMPONENT_END: Final = re.compile(r"/|\Z")
_MAX_PLACED: Final = 8
_MAX_UNPLACED: Final = 4

_RUNTIME_OF_PREFIX: Final = {
    "docker": "docker",
    "libpod": "podman",
    "libpod-payload": "podman",
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "nerdctl": "containerd",
}
_RUNTIME_OF_PARENT: Final = {"docker": "docker", "k8s.io": "containerd"}
_POD_PARENT: Final = "libpod_parent"
"""Podman names the cgroup of a pod after the pod's id, which is no container's."""

Resolver = Callable[[Task | None, Memcg | None], Sequence[Container]]
"""Returns the containers of a task in a memory cgroup, the outermost first."""


class ContainerId(Struct, frozen=True):
    """A container's id in a cgroup's path, and its runtime if the path shows it.

    ``cgroup`` is the path up to the id. ``scope`` is the cgroup of the container or guest around
    it, which names the cgroups within: empty on the host. ``placed``: it is where a runtime puts
    it. Any owner of a cgroup can name another one so; that is an id only if a runtime confirms it.
    """

    id: str
    runtime: str | None
    cgroup: str
    scope: str = ""
    placed: bool = True


def find_container_ids(cgroup_path: str) -> tuple[ContainerId, ...]:
    """Return the containers that ``cgroup_path`` is in, the outermost first.

    They are those that are placed, and up to 4 names below them that are not.
    """
    ids = find_placed_ids(cgroup_path)
    scope = ids[-1].cgroup if ids else find_guest(cgroup_path)
    ends = (match.start() for match in _COMPONENT_END.finditer(cgroup_path))
    below = (cgroup_path[:end] for end in ends if end > len(scope))
    unplaced = (each for cgroup in below for each in _parse_component(cgroup, scope))
    return (*ids, *islice(unplaced, _MAX_UNPLACED))


def find_placed_ids(cgroup_path: str) -> list[ContainerId]:
    """Return the containers that are placed in ``cgroup_path``, the outermost first."""
    ids: list[ContainerId] = []
    scope = find_guest(cgroup_path)
    while len(ids) < _MAX_PLACED and (match := _PLACED.match(cgroup_path, len(scope))):
        ids += _parse_component(cgroup_path[: match.end()], scope, placed=True)
        scope = cgroup_path[: match.end()]
    return ids


def find_guest(cgroup_path: str) -> str:
    """Return the cgroup of the system container that ``cgroup_path`` is in; empty on the host."""
    match = _GUEST.match(f"{cgroup_path}/")
    return match[0] if match else ""


def _parse_component(cgroup: str, scope: str, *, placed: bool = False) -> Iterator[ContainerId]:
    parents, _, component = cgroup.rpartition("/")
    match, parent = _COMPONENT.fullmatch(component), parents.rpartition("/")[2]
    if match and (match["prefix"] or parent != _POD_PARENT):
        prefix = match["prefix"]
        runtime = _RUNTIME_OF_PREFIX[prefix] if prefix else _RUNTIME_OF_PARENT.get(parent)
        yield ContainerId(match["id"], runtime, cgroup, scope, placed)


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


def list_tasks(event: OomEvent) -> list[tuple[Task | None, Memcg | None]]:
    """Return the trigger and the victim of an event, with their memory cgroups."""
    tasks: list[tuple[Task | None, Memcg | None]] = [(event.trigger, event.trigger_memcg)]
    if isinstance(event, OomKill | UserspaceKill):
        tasks.append((event.victim, event.memcg))
    return tasks


def containers_by_path(event: OomEvent) -> EventContainers:
    """Return the containers that the cgroups' paths alone name, see :class:`ContainerId`."""
    return resolve_containers(event, lambda _, memcg: containers_in_path(memcg))


def containers_in_path(memcg: Memcg | None) -> list[Container]:
    """Return the containers placed in a cgroup's path, the outermost first."""
    ids = find_placed_ids(memcg.path) if memcg else ()
    return [Container(each.id, each.runtime, scope=each.scope) for each in ids]
