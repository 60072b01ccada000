"""What the kernel does not say: whose process it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_oom.enrich.container import container_of
from otel_oom.enrich.decision import Decision, decision_of
from otel_oom.enrich.service import service_name
from otel_oom.event import OomKill, VictimExit
from otel_oom.witness import Witness

__all__ = ["EnrichedKill", "enrich"]

_OF_THE_AGENT: Final = (
    "service.",
    "telemetry.",
    "process.",
    "container.",
    "k8s.container.",
    "k8s.pod.",
    "k8s.daemonset.",
    "k8s.deployment.",
    "k8s.replicaset.",
    "k8s.statefulset.",
    "k8s.job.",
    "k8s.cronjob.",
    "k8s.namespace.",
)
"""Resource attributes that the agent's own environment can say only of the agent."""


@dataclass(frozen=True, slots=True)
class EnrichedKill:
    """A kill with all that is known about it, ready for translation.

    ``resource`` describes what was killed and where, never the agent. ``exit`` is ``None``
    while the victim is still dying, or when nobody saw it end.
    """

    kill: OomKill
    witness: Witness
    exit: VictimExit | None
    observed_unix_ns: int
    executable: str | None
    decision: Decision
    resource: Mapping[str, str]


def enrich(
    kill: OomKill,
    witness: Witness,
    exit_: VictimExit | None,
    observed_unix_ns: int,
    host: Mapping[str, str],
) -> EnrichedKill:
    """Join a kill with its resource; ``host`` is what every victim of this host shares."""
    path = kill.memcg.path if kill.memcg else ""
    container = container_of(path)
    resource = dict(host)
    if container:
        resource["container.id"] = container.id
        if container.runtime:
            resource["container.runtime.name"] = container.runtime
    executable = kill.victim.executable or witness.executable
    resource["service.name"] = service_name(path, container, executable, kill.victim.comm)
    return EnrichedKill(
        kill=kill,
        witness=witness,
        exit=exit_,
        observed_unix_ns=observed_unix_ns,
        executable=executable,
        decision=decision_of(kill.stack),
        resource=resource,
    )


def shared_resource(host: Mapping[str, str], of_agent: Mapping[str, str]) -> dict[str, str]:
    """The host's attributes and what ``OTEL_RESOURCE_ATTRIBUTES`` says of the place it is in.

    A deployment environment, a cluster or a region holds for every victim of the host; the
    agent's own service, process or container does not. What the user says of the host itself
    goes before what is found, which inside a container is the container's.
    """
    place = {k: v for k, v in of_agent.items() if not k.startswith(_OF_THE_AGENT)}
    return {**host, **place}
