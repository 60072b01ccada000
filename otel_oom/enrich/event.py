"""Enrichment of a stored event, by its type."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.enrich.advice import decide_cause, decide_userspace_cause
from otel_oom.enrich.badness import rank_tasks
from otel_oom.enrich.growth import find_growth
from otel_oom.enrich.host import Host
from otel_oom.enrich.kubernetes import find_pod_uid
from otel_oom.enrich.near_limit import enrich_near_limit
from otel_oom.enrich.redact import redact
from otel_oom.enrich.resource import finest_cgroup_path, victim_resource
from otel_oom.enrich.service_identity import ServiceHints
from otel_oom.enrich.stack_analysis import StackAnalysis, analyse_stack
from otel_oom.enrich.types import (
    Attributes,
    EnrichedDroppedEvents,
    EnrichedEvent,
    EnrichedKill,
    EnrichedMissedKills,
    EnrichedNoVictim,
    EnrichedPanic,
    EnrichedUserspaceKill,
    VictimOutcome,
)
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.enrich.victim_start import add_container_settings, admit_claims
from otel_oom.linux.cgroup_holder import find_holder
from otel_oom.linux.containers.cgroup_id import (
    containers_by_path,
    containers_in_path,
    find_placed_ids,
)
from otel_oom.linux.containers.pod_cgroup import find_pod_cgroup
from otel_oom.linux.dying_process import is_same_process
from otel_oom.linux.process import ProcessDir
from otel_oom.linux.systemd.unit_files import UnitSetting, find_memory_setting
from otel_oom.linux.systemd.units import find_owning_unit, find_units
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import (
    NoVictim,
    OomKill,
    Panic,
    StoredEvent,
    UserspaceKill,
    VictimExit,
)
from otel_oom.model.loss import DroppedEvents, MissedKills
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import EventContainers, Snapshot
from otel_oom.model.types import Memcg, OomControl
from otel_oom.model.units import NS_PER_S

_CONTAINER_PREFIXES: Final = ("container.", "k8s.container.")
_MAX_EXIT_DELAY_NS: Final = 10 * NS_PER_S
_SIGNAL_BITS: Final = 0x7F
_FATAL_SIGNALS: Final = {signal.SIGTERM, signal.SIGKILL}
_HOST_CONSTRAINTS: Final = {"none", "cpuset", "memory_policy"}


def enrich_event(  # noqa: PLR0911  one for each kind of event
    event: StoredEvent,
    snapshot: Snapshot,
    victim_outcome: VictimOutcome,
    observed_unix_ns: int,
    host: Host,
) -> EnrichedEvent:
    """Enrich an event of this ``host``, or of the log of another.

    ``victim_outcome`` applies to kills. ``observed_unix_ns`` is the time at
    which the event was stored.
    """
    host = host.of_event(event)
    if isinstance(event, MissedKills):
        return enrich_missed_kills(event, observed_unix_ns, host)
    if isinstance(event, DroppedEvents):
        return enrich_dropped_events(event, observed_unix_ns, host, snapshot.containers)
    if isinstance(event, NoVictim):
        return enrich_no_victim(event, observed_unix_ns, host, snapshot.containers)
    if isinstance(event, NearLimit):
        setting = _limit_setting(event.decision)
        return enrich_near_limit(event, snapshot, observed_unix_ns, host, setting)
    if isinstance(event, Panic):
        return enrich_panic(event, observed_unix_ns, host)
    if isinstance(event, UserspaceKill):
        return enrich_userspace_kill(event, snapshot, observed_unix_ns, host, victim_outcome.exit)
    return enrich_kill(event, snapshot, victim_outcome, observed_unix_ns, host)


def enrich_kill(
    kill: OomKill,
    snapshot: Snapshot,
    victim_outcome: VictimOutcome,
    observed_unix_ns: int,
    host: Host,
) -> EnrichedKill:
    """Enrich a kill by the kernel."""
    containers, path = (
        snapshot.containers or containers_by_path(kill),
        finest_cgroup_path(kill, snapshot),
    )
    executable = kill.victim.executable or snapshot.executable
    snapshot = add_container_settings(snapshot, containers, executable)
    stack_analysis = analyse_stack(kill.stack)
    claims = admit_claims(host.claims, path, snapshot, containers)
    hints = ServiceHints(claims, executable=executable, comm=kill.victim.comm)
    resource, service = victim_resource(path, containers, hints, host.attributes)
    scope = limit_scope(kill, stack_analysis, find_pod_uid(resource))
    enriched = EnrichedKill(
        event=kill,
        snapshot=snapshot,
        victim_outcome=victim_outcome,
        observed_unix_ns=observed_unix_ns,
        executable=executable,
        command=None if kill.victim.command is None else redact(kill.victim.command),
        user_stack=_user_stack(kill, executable, host.symbolizer),
        stack_analysis=stack_analysis,
        limit_scope=scope,
        # The unit files of this host do not apply to the log of another time or host.
        limit_setting=None if kill.provenance else _limit_setting(kill.decision),
        ranked_tasks=rank_tasks(kill),
        cgroup_path=path,
        containers=containers,
        service=service,
        resource=resource,
        growth=find_growth(kill, snapshot, scope),
    )
    return replace(enriched, finding=decide_cause(enriched))


def enrich_userspace_kill(
    event: UserspaceKill,
    snapshot: Snapshot,
    observed_unix_ns: int,
    host: Host,
    exit_: VictimExit | None = None,
) -> EnrichedUserspaceKill:
    """Enrich a userspace kill with the resource of its process, unit or container."""
    command = event.victim.command if event.victim else None
    containers = snapshot.containers or containers_by_path(event)
    path, comm = finest_cgroup_path(event, snapshot), event.victim.comm if event.victim else None
    claims = admit_claims(host.claims, path, snapshot, containers)
    hints = ServiceHints(claims, executable=snapshot.executable, comm=comm)
    resource, service = victim_resource(path, containers, hints, host.attributes)
    enriched = EnrichedUserspaceKill(
        event=event,
        snapshot=snapshot,
        verified=event.verified or (exit_ is not None and is_death_by(event, exit_)),
        observed_unix_ns=observed_unix_ns,
        executable=snapshot.executable,
        command=None if command is None else redact(command),
        cgroup_path=path,
        containers=containers,
        service=service,
        resource=resource,
    )
    return replace(enriched, finding=decide_userspace_cause(enriched))


def is_death_by(kill: UserspaceKill, exit_: VictimExit) -> bool:
    """Return true for an exit that follows a userspace kill, by its signal or an unknown one.

    A message that is forged can name a process that ends by itself, so its signal counts where the
    kernel has it. earlyoom waits for 10 s, and may follow SIGTERM by SIGKILL.
    """
    in_time = exit_.boottime_ns - kill.boottime_ns <= _MAX_EXIT_DELAY_NS
    by_signal = exit_.exit_code is None or exit_.exit_code & _SIGNAL_BITS in _FATAL_SIGNALS
    return in_time and by_signal


def enrich_no_victim(
    event: NoVictim, observed_unix_ns: int, host: Host, containers: EventContainers | None = None
) -> EnrichedNoVictim:
    """Enrich an OOM without a victim with the resource of its trigger."""
    trigger, memcg = event.trigger, event.trigger_memcg
    containers = containers or containers_by_path(event)
    path, comm = memcg.path if memcg else "", trigger.comm if trigger else None
    hints = ServiceHints(comm=comm)
    resource, _ = victim_resource(path, containers, hints, host.attributes)
    return EnrichedNoVictim(
        event=event,
        observed_unix_ns=observed_unix_ns,
        user_stack=_user_stack(event, None, host.symbolizer),
        stack_analysis=analyse_stack(event.stack),
        containers=containers,
        resource=resource,
    )


def enrich_panic(event: Panic, observed_unix_ns: int, host: Host) -> EnrichedPanic:
    """Enrich a panic with the host as its resource, as it is now."""
    resource, _ = victim_resource("", EventContainers(), ServiceHints(), host.attributes)
    return EnrichedPanic(
        event=event,
        observed_unix_ns=observed_unix_ns,
        stack_analysis=analyse_stack(event.stack),
        resource=resource,
    )


def enrich_missed_kills(
    event: MissedKills, observed_unix_ns: int, host: Host
) -> EnrichedMissedKills:
    """Enrich missed kills with the agent as their resource: the victims are not known."""
    return EnrichedMissedKills(event, observed_unix_ns, _agent_resource(host))


def _agent_resource(host: Host) -> Attributes:
    return {**host.attributes, "service.name": "otel-oom"}


def enrich_dropped_events(
    event: DroppedEvents, observed_unix_ns: int, host: Host, containers: EventContainers | None
) -> EnrichedDroppedEvents:
    """Enrich drops with the pod, container or unit of their holder as the resource.

    ``containers`` are those of one of the events: where the holder is a pod, only the pod is
    described by them. Of an unknown holder the resource is the agent.
    """
    if not event.holder:
        return EnrichedDroppedEvents(event, observed_unix_ns, _agent_resource(host))
    containers = containers or EventContainers(*containers_in_path(Memcg(None, event.holder))[:1])
    outer = containers.host or containers.victim
    is_container = outer is not None and outer.id in event.holder
    if not is_container and not find_pod_cgroup(event.holder):
        # One of the containers of a user is not that user.
        outer = None
    resource, _ = victim_resource(
        event.holder, EventContainers(outer), ServiceHints(), host.attributes
    )
    if not is_container:
        resource = {k: v for k, v in resource.items() if not k.startswith(_CONTAINER_PREFIXES)}
    return EnrichedDroppedEvents(event, observed_unix_ns, resource)


def _user_stack(
    event: OomEvent, executable: str | None, symbolizer: UserSymbolizer
) -> tuple[str, ...]:
    trigger = event.trigger
    if not event.user_stack or trigger is None:
        return ()
    process, memcg = ProcessDir(str(trigger.tgid)), event.trigger_memcg
    path, cgroup = memcg.path if memcg else "", process.read_text("cgroup")
    # Another process may have its pid by now.
    is_trigger = is_same_process(process, trigger, memcg, event.boottime_ns, cgroup)
    roots = (Path(process.path, "root"),) if is_trigger else ()
    # The path in a container that has ended is that of another file here, if of any.
    is_searched = bool(roots) or not find_placed_ids(path)
    executables = (executable,) if executable and is_searched else ()
    return symbolizer.symbolize(event.user_stack, executables, roots, find_holder(path))


def limit_scope(
    kill: OomKill, stack_analysis: StackAnalysis, pod_uid: str | None = None
) -> str | None:
    """Return ``own``, ``pod``, ``ancestor`` or ``host``; ``None`` if it is not known.

    ``pod_uid`` is the victim's pod, where its runtime names it.
    """
    if kill.decision is None:
        return "host" if stack_analysis.origin in {"host", "sysrq", "page_fault"} else None
    hit, own = kill.decision.memcg, kill.memcg
    if hit is None:
        # The kernel log can omit the cgroup.
        return "host" if kill.decision.constraint in _HOST_CONSTRAINTS else None
    if own is None or hit.path_cut or own.path_cut:
        return None
    if hit.path == own.path:
        return "own"
    if not own.path.startswith(f"{hit.path.rstrip('/')}/"):
        return None
    pod = find_pod_cgroup(own.path, pod_uid)
    return "pod" if pod and pod.path == hit.path else "ancestor"


def _limit_setting(decision: OomControl | None) -> UnitSetting | None:
    """Find the setting of a system unit that set the limit that was hit."""
    if decision is None or decision.memcg is None or decision.memcg_usage is None:
        return None
    units, owner = find_units(decision.memcg.path), find_owning_unit(decision.memcg.path)
    in_user_manager = units.unit is not None and owner != units.unit
    if owner is None or in_user_manager or decision.memcg_usage.limit is None:
        return None
    return find_memory_setting(owner, decision.memcg_usage.limit)
