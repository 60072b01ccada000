"""A kill by user space, joined with the resource that it was of."""

from __future__ import annotations

from dataclasses import dataclass

from otel_oom.enrich import Attributes, Host, resource_of
from otel_oom.enrich.cgroup_path import cgroup_path
from otel_oom.enrich.service_identity import ServiceHints
from otel_oom.linux.containers.of_event import containers_by_path
from otel_oom.model.container import EventContainers
from otel_oom.model.events import UserspaceKill
from otel_oom.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class EnrichedUserspaceKill:
    """A kill by user space with all that is known about it, ready for translation.

    ``place`` is the path of the victim's cgroup, empty where none is known.
    """

    event: UserspaceKill
    witness: Snapshot
    observed_unix_ns: int
    executable: str | None
    place: str
    containers: EventContainers
    resource: Attributes

    @property
    def outcome(self) -> str:
        """``killed``, or ``signalled``: told as it was begun, and what came of it nobody says."""
        return "killed" if self.event.completed else "signalled"


def enrich_userspace_kill(
    event: UserspaceKill, witness: Snapshot, observed_unix_ns: int, host: Host
) -> EnrichedUserspaceKill:
    """Join a kill with its resource: the victim's, or the unit's or container's that was killed."""
    containers = witness.containers or containers_by_path(event)
    place, comm = cgroup_path(event, witness), event.victim.comm if event.victim else None
    return EnrichedUserspaceKill(
        event=event,
        witness=witness,
        observed_unix_ns=observed_unix_ns,
        executable=witness.executable,
        place=place,
        containers=containers,
        resource=resource_of(
            place,
            containers.victim,
            ServiceHints(witness.environ, executable=witness.executable, comm=comm),
            host.attributes,
        ),
    )
