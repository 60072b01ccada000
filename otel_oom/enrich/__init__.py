"""What the kernel does not say: whose process it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from opentelemetry.util.types import AttributeValue

from otel_oom.enrich.badness import RankedTask, chosen_among, ranked
from otel_oom.enrich.cgroup_path import cgroup_path
from otel_oom.enrich.container_attributes import container_attributes
from otel_oom.enrich.kubernetes import pod_of
from otel_oom.enrich.limit_scope import limit_scope
from otel_oom.enrich.redact import redact
from otel_oom.enrich.service_identity import ServiceHints, resolve_service
from otel_oom.enrich.stack_analysis import StackAnalysis, analyse_stack
from otel_oom.enrich.user_stack import Resolver
from otel_oom.linux.containers.of_event import containers_by_path
from otel_oom.linux.systemd.unit_files import UnitSetting, find_memory_setting
from otel_oom.linux.systemd.units import find_owning_unit, find_units
from otel_oom.model.container import Container, EventContainers
from otel_oom.model.event_base import Event, OomEvent
from otel_oom.model.events import (
    MissedKills,
    NoVictim,
    OomKill,
    Panic,
    ReaperStep,
    VictimExit,
)
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import MemcgUsage, OomControl

__all__ = [
    "EnrichedKill",
    "EnrichedMissedKills",
    "EnrichedNoVictim",
    "EnrichedPanic",
    "Host",
    "StillAlive",
    "VictimOutcome",
    "enrich",
    "enrich_missed_kills",
    "enrich_no_victim",
    "enrich_panic",
]

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

_AGENT: Final = "otel-oom"
"""The service of what only the agent can report."""

Attributes = Mapping[str, AttributeValue]
"""Resource attributes by their names."""

_MORE_THAN_THE_HOST: Final = ("service.", "deployment.")
"""What a victim says of itself, though the host's environment says it of the host."""


@dataclass(frozen=True, slots=True)
class Host:
    """What every victim of this host shares: its resource attributes, and the files on its disk.

    ``said`` are those of the attributes that the user says of the place.
    """

    attributes: Attributes
    files: Resolver
    said: Attributes = field(default_factory=dict)

    def of(self, event: Event) -> Host:
        """The host that an event is of: for what was found in a log, the one whose log that is."""
        found = event.provenance if isinstance(event, OomEvent) else None
        if found is None:
            return self
        named = {"host.name": found.host, "host.id": found.host_id, "os.type": "linux"}
        told = {name: value for name, value in named.items() if value is not None}
        return dataclasses.replace(self, attributes={**self.said, **told})


@dataclass(frozen=True, slots=True)
class StillAlive:
    """A victim that has not died: when it was looked at, on CLOCK_BOOTTIME, and its state then.

    ``state`` is the letter of proc_pid_stat(5), such as ``D`` for an uninterruptible sleep.
    """

    boottime_ns: int
    state: str


@dataclass(frozen=True, slots=True)
class VictimOutcome:
    """How the story of a kill ended, as far as it is known yet."""

    exit: VictimExit | None = None
    reaper: tuple[ReaperStep, ...] = ()
    alive: StillAlive | None = None

    @property
    def reaped(self) -> int | None:
        """How many bytes the reaper took, over all its attempts; ``None`` if it did not come."""
        held = [step.resident for step in self.reaper if step.stage == "start"]
        left = [step.resident for step in self.reaper if step.stage == "finish"]
        if not held or not left or held[0] is None or left[-1] is None:
            return None
        return max(0, held[0] - left[-1])


@dataclass(frozen=True, slots=True)
class EnrichedKill:
    """A kill with all that is known about it, ready for translation.

    ``resource`` describes what was killed and where, never the agent. ``command`` is without
    its secrets.
    """

    kill: OomKill
    witness: Snapshot
    end: VictimOutcome
    observed_unix_ns: int
    executable: str | None
    command: tuple[str, ...] | None
    user_stack: tuple[str, ...]
    origin: StackAnalysis
    limit_scope: str | None
    limit_setting: UnitSetting | None
    candidates: tuple[RankedTask, ...]
    containers: EventContainers
    resource: Attributes

    @property
    def outcome(self) -> str:
        """What became of the victim: ``killed``, ``already_exiting`` or ``skipped``."""
        if self.kill.skipped:
            return "skipped"
        return "already_exiting" if self.kill.already_exiting else "killed"

    @property
    def limits(self) -> MemcgUsage | None:
        """Of the victim's cgroup: those of the mark, or else what was read after it."""
        marked, read = self.kill.memcg_usage, self.witness.memcg_usage
        if marked and read and read.usage is not None and read.swap_usage is None:
            # A kernel that accounts no swap has its counters all the same, and no file of them.
            return replace(marked, swap_limit=None, swap_usage=None)
        return marked or read


@dataclass(frozen=True, slots=True)
class EnrichedNoVictim:
    """A want of memory without anyone to kill, ready for translation."""

    event: NoVictim
    observed_unix_ns: int
    user_stack: tuple[str, ...]
    origin: StackAnalysis
    containers: EventContainers
    resource: Attributes


@dataclass(frozen=True, slots=True)
class EnrichedPanic:
    """A panic for want of memory, ready for translation."""

    event: Panic
    observed_unix_ns: int
    origin: StackAnalysis
    resource: Attributes


@dataclass(frozen=True, slots=True)
class EnrichedMissedKills:
    """Kills that no event reports, ready for translation."""

    event: MissedKills
    observed_unix_ns: int
    resource: Attributes


def enrich(
    kill: OomKill,
    witness: Snapshot,
    end: VictimOutcome,
    observed_unix_ns: int,
    host: Host,
) -> EnrichedKill:
    """Join a kill with its resource and the names that its numbers have on this host."""
    containers = witness.containers or containers_by_path(kill)
    if witness.kernel_report and kill.original is None:
        kill = replace(kill, original=witness.kernel_report, tasks=witness.kernel_report_tasks)
    witness = replace(witness, tasks=chosen_among(kill, witness.tasks))
    executable = kill.victim.executable or witness.executable
    origin = analyse_stack(kill.stack)
    # Of another time, or another host, the files here tell nothing.
    setting = None if kill.provenance else _limit_setting(kill.decision)
    return EnrichedKill(
        kill=kill,
        witness=witness,
        end=end,
        observed_unix_ns=observed_unix_ns,
        executable=executable,
        command=None if kill.victim.command is None else redact(kill.victim.command),
        user_stack=_user_stack(kill, executable, host.files),
        origin=origin,
        limit_scope=limit_scope(kill, origin),
        limit_setting=setting,
        candidates=ranked(kill, witness.tasks),
        containers=containers,
        resource=resource_of(
            cgroup_path(kill, witness),
            containers.victim,
            ServiceHints(witness.environ, executable=executable, comm=kill.victim.comm),
            host.attributes,
        ),
    )


def enrich_no_victim(
    event: NoVictim, observed_unix_ns: int, host: Host, containers: EventContainers | None = None
) -> EnrichedNoVictim:
    """Join a want of memory with the resource of the task that had it: nobody else is concerned."""
    trigger, memcg = event.trigger, event.trigger_memcg
    containers = containers or containers_by_path(event)
    return EnrichedNoVictim(
        event=event,
        observed_unix_ns=observed_unix_ns,
        user_stack=_user_stack(event, None, host.files),
        origin=analyse_stack(event.stack),
        containers=containers,
        resource=resource_of(
            memcg.path if memcg else "",
            containers.victim,
            ServiceHints(comm=trigger.comm if trigger else None),
            host.attributes,
        ),
    )


def enrich_panic(event: Panic, observed_unix_ns: int, host: Host) -> EnrichedPanic:
    """Join a panic with the host as its resource: that is what went down, with all that was on it.

    What is told of the host is read now, as for all else: its kernel may be another one by then.
    """
    return EnrichedPanic(
        event=event,
        observed_unix_ns=observed_unix_ns,
        origin=analyse_stack(event.stack),
        resource=resource_of("", None, ServiceHints(), host.attributes),
    )


def enrich_missed_kills(
    event: MissedKills, observed_unix_ns: int, host: Host
) -> EnrichedMissedKills:
    """Join missed kills with this agent as the resource: their own services are not known."""
    resource = {**host.attributes, "service.name": _AGENT}
    return EnrichedMissedKills(event, observed_unix_ns, resource)


def _user_stack(event: OomEvent, executable: str | None, files: Resolver) -> tuple[str, ...]:
    """The trigger's frames by name, as far as its files are still there."""
    trigger = event.trigger
    if not event.user_stack or trigger is None:
        return ()
    root = Path(f"/proc/{trigger.tgid}/root")
    return files.lines(event.user_stack, (executable,) if executable else (), (root,))


def _limit_setting(decision: OomControl | None) -> UnitSetting | None:
    """What in a file of systemd's set the limit that was hit, if it is one of the host's units."""
    if decision is None or decision.memcg is None or decision.memcg_usage is None:
        return None
    units, owner = find_units(decision.memcg.path), find_owning_unit(decision.memcg.path)
    of_user = units.unit is not None and owner != units.unit
    if owner is None or of_user or decision.memcg_usage.limit is None:
        return None
    return find_memory_setting(owner, decision.memcg_usage.limit)


def resource_of(
    path: str, container: Container | None, facts: ServiceHints, host: Attributes
) -> dict[str, AttributeValue]:
    """What was killed: the host, what it and its pod's author say, and above all what is known."""
    pod = pod_of(path, container.annotations if container else {})
    # Within a container, the units are those of the systemd that runs in it.
    units = find_units(_within(path, container.id) if container else path)
    name = container.name if container else None
    labels = container.labels if container else {}
    own = resolve_service(
        dataclasses.replace(facts, pod=pod, labels=labels, units=units, container=name)
    )
    resource = {k: v for k, v in own.items() if k.startswith(_MORE_THAN_THE_HOST) or k not in host}
    of_pod = pod.attributes() if pod else {}
    return {**host, **resource, **of_pod, **container_attributes(container)}


def _within(path: str, container: str) -> str:
    """The rest of ``path`` behind the container's own cgroup, and the one that podman adds."""
    _, own, rest = path.rpartition(container)
    return rest.partition("/")[2].removeprefix("container/") if own else ""


def of_place(of_agent: Attributes) -> dict[str, AttributeValue]:
    """What ``OTEL_RESOURCE_ATTRIBUTES`` says of the place, less what it says of the agent."""
    return {k: v for k, v in of_agent.items() if not k.startswith(_OF_THE_AGENT)}


def shared_resource(host: Attributes, of_agent: Attributes) -> dict[str, AttributeValue]:
    """The host's attributes and what ``OTEL_RESOURCE_ATTRIBUTES`` says of the place it is in.

    A deployment environment, a cluster or a region holds for every victim of the host; the
    agent's own service, process or container does not. What the user says of the host itself
    goes before what is found, which inside a container is the container's.
    """
    return {**host, **of_place(of_agent)}
