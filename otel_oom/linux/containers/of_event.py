"""The containers of an event's tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from otel_oom.linux.containers.cgroup_id import containers_of
from otel_oom.model.container import Container, EventContainers
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.types import Memcg, Task

Of = Callable[[Task | None, Memcg | None], Sequence[Container]]
"""The containers of a task in a memory cgroup, the outermost first."""


def contained(event: OomEvent, of: Of) -> EventContainers:
    """The containers of an event, those of each of its tasks being had by ``of``."""
    if not isinstance(event, OomKill | UserspaceKill):
        found = of(event.trigger, event.trigger_memcg)
        return EventContainers(victim=found[-1] if found else None)
    found = of(event.victim, event.memcg)
    inner = found[-1] if found else None
    trigger = None
    if event.trigger and event.victim and event.trigger.tgid != event.victim.tgid:
        of_trigger = of(event.trigger, event.trigger_memcg)
        if of_trigger and (inner is None or of_trigger[-1].id != inner.id):
            trigger = of_trigger[-1]
    return EventContainers(inner, found[0] if len(found) > 1 else None, trigger)


def by_path(event: OomEvent) -> EventContainers:
    """What the cgroups' paths alone say of an event's containers."""
    return contained(event, lambda _, memcg: of_path(memcg))


def of_path(memcg: Memcg | None) -> list[Container]:
    """The containers in a cgroup's path, the outermost first."""
    ids = containers_of(memcg.path) if memcg else ()
    return [Container(one.id, one.runtime) for one in ids]
