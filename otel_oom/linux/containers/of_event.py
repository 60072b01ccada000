"""The containers of an event's tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from otel_oom.linux.containers.cgroup_id import find_container_ids
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg, Task

Resolver = Callable[[Task | None, Memcg | None], Sequence[Container]]
"""Returns the containers of a task in a memory cgroup, the outermost first."""


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
