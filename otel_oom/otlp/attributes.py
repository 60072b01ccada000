"""The flat attributes that a kill's log event and span share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from otel_oom.enrich import EnrichedKill, EnrichedNoVictim, EnrichedPanic
from otel_oom.enrich.advice import advice
from otel_oom.enrich.cgroup_path import cgroup_path
from otel_oom.enrich.kubernetes import pod_of
from otel_oom.enrich.stack_analysis import StackAnalysis
from otel_oom.linux.systemd.units import find_owning_unit, find_units
from otel_oom.model.container import EventContainers
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import MissedKills, NoVictim, OomKill, Panic, UserspaceKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Memcg, MemcgUsage, Task
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.otlp.snapshot_attributes import seen_attributes
from otel_oom.otlp.types import Attributes, Value

KERNEL: Final = "kernel"
"""The killer of every kill but those that a program of user space tells of."""

_INT64_MAX: Final = (1 << 63) - 1
_VALUE_CHARS: Final = 4096

OWN_MEMCG: Final = (
    *(semconv.MEMCG_PATH, semconv.MEMCG_ID, semconv.MEMCG_LIMIT, semconv.MEMCG_USAGE),
    *(semconv.MEMCG_SWAP_LIMIT, semconv.MEMCG_SWAP_USAGE),
)
_LIMIT_MEMCG: Final = (
    *(semconv.LIMIT_MEMCG_PATH, semconv.LIMIT_MEMCG_ID, semconv.LIMIT_MEMCG_LIMIT),
    *(semconv.LIMIT_MEMCG_USAGE, semconv.LIMIT_MEMCG_SWAP_LIMIT, semconv.LIMIT_MEMCG_SWAP_USAGE),
)
_TRIGGER_MEMCG: Final = (semconv.TRIGGER_MEMCG_PATH, semconv.TRIGGER_MEMCG_ID)


def original(event: OomKill | NoVictim | Panic) -> Attributes:
    """The text of the kernel's log, which is longer than other values may be.

    Its bound is that of the event. A span has it in the log event that bears its id.
    """
    return {"log.record.original": event.original} if event.original else {}


def kill_attributes(enriched: EnrichedKill) -> Attributes:
    """Every attribute of the kill itself; what is not known is left out."""
    kill, witness, setting = enriched.kill, enriched.witness, enriched.limit_setting
    return only_known(
        {
            "log.record.uid": kill.uid,
            **victim_process(kill, kill.victim, enriched.executable, witness),
            "process.command_args": enriched.command,
            semconv.KILLER_NAME: KERNEL,
            semconv.VICTIM_COMM: kill.victim.comm,
            semconv.VICTIM_GID: kill.victim.gid,
            semconv.VICTIM_PID_NAMESPACE: kill.victim.pid_ns,
            semconv.VICTIM_MOUNT_NAMESPACE: kill.victim.mnt_ns,
            semconv.VICTIM_SCORE_ADJ: kill.victim.score_adj,
            **_memory(kill),
            **cgroup(OWN_MEMCG, kill.memcg, enriched.limits),
            **victim_place(cgroup_path(kill, witness)),
            semconv.OUTCOME: enriched.outcome,
            semconv.INCIDENT_ID: kill.incident or kill.uid,
            semconv.LIMIT_SCOPE: enriched.limit_scope,
            semconv.LIMIT_SETTING: setting.line if setting else None,
            semconv.LIMIT_FILE: str(setting.file) if setting else None,
            **seen_attributes(enriched),
            semconv.ADVICE: advice(enriched),
            **around_containers(enriched.containers),
            **_shared(kill, enriched.origin, enriched.user_stack),
        }
    )


def no_victim_attributes(enriched: EnrichedNoVictim) -> Attributes:
    """Every attribute of a want of memory without a victim; what is not known is left out."""
    event = enriched.event
    return only_known(
        {
            "log.record.uid": event.uid,
            semconv.DECISION_REPEAT_COUNT: event.repeat_count,
            **around_containers(enriched.containers),
            **_shared(event, enriched.origin, enriched.user_stack),
        }
    )


def panic_attributes(enriched: EnrichedPanic) -> Attributes:
    """Every attribute of a panic for want of memory; what is not known is left out."""
    event = enriched.event
    return only_known(
        {
            "log.record.uid": event.uid,
            semconv.TIME_SOURCE: event.time_source,
            **_shared(event, enriched.origin, ()),
            semconv.TRIGGER_TID: event.tid,
            semconv.TRIGGER_COMM: event.comm,
            semconv.PANIC_MESSAGE: event.message,
            semconv.PANIC_BOOT_ID: event.boot_id or None,
        }
    )


def missed_attributes(event: MissedKills) -> Attributes:
    """Every attribute of kills that nothing tells of."""
    return only_known(
        {
            "log.record.uid": event.uid,
            semconv.MISSED_COUNT: event.count,
            semconv.MISSED_KERNEL_COUNT: event.kernel_count,
            semconv.MISSED_REASON: event.reason,
            semconv.MISSED_UPPER_BOUND: event.upper_bound,
        }
    )


def _shared(
    event: OomEvent, origin: StackAnalysis, user_stack: Sequence[str]
) -> dict[str, Value | None]:
    """What is told of every decision, whatever came of it."""
    decision, trigger = event.decision, event.trigger
    limit = decision.memcg if decision else None
    return {
        semconv.TRIGGER_PID: trigger.tgid if trigger else None,
        semconv.TRIGGER_TID: trigger.tid if trigger else None,
        semconv.TRIGGER_COMM: trigger.comm if trigger else None,
        semconv.TRIGGER_UID: trigger.uid if trigger else None,
        **cgroup(_TRIGGER_MEMCG, event.trigger_memcg, None),
        **_trigger_place(event),
        semconv.LIMIT_UNIT: find_owning_unit(limit.path) if limit else None,
        **cgroup(_LIMIT_MEMCG, limit, decision.memcg_usage if decision else None),
        semconv.DECISION_ORIGIN: origin.by,
        semconv.REQUEST_KERNEL_STACK: "\n".join(event.stack) or None,
        semconv.DECISION_CONSTRAINT: decision.constraint if decision else None,
        semconv.DECISION_POINTS: decision.points if decision else None,
        semconv.DECISION_TOTAL_MEMORY: decision.total_memory if decision else None,
        semconv.DECISION_MESSAGE: decision.message if decision else None,
        semconv.REQUEST_MEMORY_TYPE: origin.memory,
        semconv.REQUEST_ENTRY_POINT: origin.entry,
        semconv.REQUEST_ORDER: decision.order if decision else None,
        semconv.REQUEST_GFP_MASK: decision.gfp_mask if decision else None,
        semconv.REQUEST_GFP_FLAGS: decision.gfp_flags if decision else None,
        semconv.REQUEST_USER_STACK: "\n".join(user_stack) or None,
        semconv.CAPTURE_SOURCE: event.capture.source,
        semconv.CAPTURE_HOOK: event.capture.hook,
        semconv.DECISION_SOURCE: decision.source if decision else None,
        semconv.CAPTURE_RECOVERED: event.capture.recovered or None,
        **_found(event),
    }


def _found(event: OomEvent) -> dict[str, Value | None]:
    """In which log of the past it was found."""
    found = event.provenance
    if found is None:
        return {}
    return {semconv.TIME_SOURCE: found.time_source, "log.file.path": found.file}


def victim_place(path: str) -> dict[str, Value | None]:
    """The units that it was in, and its pod's class."""
    units, pod = find_units(path), pod_of(path, {})
    return {
        semconv.VICTIM_UNIT: units.unit,
        semconv.VICTIM_SLICE: units.slice,
        semconv.VICTIM_USER_UNIT: units.user_unit,
        semconv.VICTIM_QOS_CLASS: pod.qos_class if pod else None,
    }


def _trigger_place(event: OomEvent) -> dict[str, Value | None]:
    """The unit and the pod of a trigger that was somewhere else than the victim."""
    memcg = event.trigger_memcg
    own = event.memcg if isinstance(event, OomKill) else None
    if memcg is None or (own and own.path == memcg.path):
        return {}
    units, pod = find_units(memcg.path), pod_of(memcg.path, {})
    return {
        semconv.TRIGGER_UNIT: units.unit,
        semconv.TRIGGER_USER_UNIT: units.user_unit,
        semconv.TRIGGER_POD_UID: pod.uid if pod else None,
    }


def around_containers(containers: EventContainers) -> dict[str, Value | None]:
    """Those beside the victim's own, which is in the resource, and what could not be found out."""
    outer, trigger = containers.host, containers.trigger
    errors = {f"container {one.id}: {one.error}" for one in containers.parts if one and one.error}
    return {
        semconv.HOST_CONTAINER_ID: outer.id if outer else None,
        semconv.HOST_CONTAINER_NAME: outer.name if outer else None,
        semconv.TRIGGER_CONTAINER_ID: trigger.id if trigger else None,
        semconv.TRIGGER_CONTAINER_NAME: trigger.name if trigger else None,
        semconv.ENRICHMENT_ERROR: "\n".join(sorted(errors)) or None,
    }


def cgroup(
    keys: Sequence[str], memcg: Memcg | None, limits: MemcgUsage | None
) -> dict[str, Value | None]:
    """A cgroup under the names ``keys``: path, inode, and behind them its limits if given."""
    if memcg is None:
        return {}
    values: list[Value | None] = [memcg.path, memcg.id]
    if limits:
        values += [limits.limit, limits.usage, limits.swap_limit, limits.swap_usage]
    return dict(zip(keys, values, strict=False))


def victim_process(
    event: OomKill | UserspaceKill, victim: Task, executable: str | None, witness: Snapshot
) -> dict[str, Value | None]:
    """The victim as a process, by the names that OpenTelemetry has for that."""
    return {
        "process.pid": victim.tgid,
        "process.vpid": victim.namespaced_pid,
        "process.parent_pid": victim.ppid,
        "process.creation.time": _creation_time(event, victim),
        "process.executable.name": executable.rpartition("/")[2] if executable else None,
        "process.executable.path": executable,
        "process.real_user.id": victim.uid,
        "process.linux.cgroup": witness.cgroup.strip() if witness.cgroup else None,
    }


def _creation_time(event: OomKill | UserspaceKill, victim: Task) -> str | None:
    """The victim's start in ISO 8601, from its distance to the kill on the kernel's clock."""
    if victim.start_boottime_ns is None:
        return None
    unix_ns = event.to_unix_ns(victim.start_boottime_ns)
    started = datetime.fromtimestamp(unix_ns // NS_PER_S, UTC)
    millis = unix_ns % NS_PER_S // 1_000_000
    return f"{started:%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def _memory(kill: OomKill) -> dict[str, int | None]:
    memory = kill.memory
    if memory is None:
        return {}
    return {
        semconv.MEMORY_TOTAL_VM: memory.total_vm,
        semconv.MEMORY_ANON: memory.anon,
        semconv.MEMORY_FILE: memory.file,
        semconv.MEMORY_SHMEM: memory.shmem,
        semconv.MEMORY_SWAP: memory.swap,
        semconv.MEMORY_PAGE_TABLES: memory.page_tables,
    }


def only_known(values: Mapping[str, Value | None]) -> Attributes:
    """``values`` without what is unknown or does not fit OTLP's 64-bit signed integer."""
    known: Attributes = {}
    for name, value in values.items():
        if isinstance(value, str):
            known[name] = value[:_VALUE_CHARS]
        elif isinstance(value, int):
            if -_INT64_MAX <= value <= _INT64_MAX:
                known[name] = value
        elif value is not None:
            known[name] = value
    return known


def kill_label(enriched: EnrichedKill) -> str:
    """What a kill is counted under, as JSON: attributes that a host has few values of, ever."""
    decision = enriched.kill.decision
    return label(enriched.outcome, decision.constraint if decision else None, enriched.limit_scope)


def missed_label() -> str:
    """What kills are counted under that only the kernel's own count tells of."""
    return label("missed", None, None)


def label(
    outcome: str, constraint: str | None, scope: str | None, killer: str | None = None
) -> str:
    """The same of its parts; what is not known is left out, and so is the kernel as the killer."""
    attributes = {
        semconv.OUTCOME: outcome,
        semconv.KILLER_NAME: killer,
        semconv.DECISION_CONSTRAINT: constraint,
        semconv.LIMIT_SCOPE: scope,
    }
    return json.dumps({name: value for name, value in attributes.items() if value is not None})
