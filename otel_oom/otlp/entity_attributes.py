"""Attributes of processes, cgroups, units, pods and containers, flat and within OTLP's types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from otel_oom.enrich.finding import Finding
from otel_oom.enrich.kubernetes import find_pod_uid
from otel_oom.enrich.service_identity import ServiceIdentity
from otel_oom.enrich.types import EnrichedKill, EnrichedUserspaceKill
from otel_oom.linux.containers.pod_cgroup import find_pod_cgroup
from otel_oom.linux.runtimes.settings import ARGUMENT_FILE, format_setting
from otel_oom.linux.systemd.units import find_units
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import EventContainers, Snapshot
from otel_oom.model.types import Memcg, MemcgUsage, Memory, Task
from otel_oom.model.units import NS_PER_MS, NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.otlp.semconv import Attributes, Value
from otel_oom.store.types import RepeatedKill

_INT64_MAX: Final = (1 << 63) - 1
_MAX_VALUE_CHARS: Final = 4096
_MAX_ARRAY_CHARS: Final = 16384
"""As long as a command line may be: 64 words of 256 characters."""

VICTIM_MEMCG: Final = (
    *(semconv.VICTIM_MEMCG_PATH, semconv.VICTIM_MEMCG_ID, semconv.VICTIM_MEMCG_LIMIT),
    *(semconv.VICTIM_MEMCG_USAGE, semconv.VICTIM_MEMCG_SWAP_LIMIT, semconv.VICTIM_MEMCG_SWAP_USAGE),
)
LIMIT_MEMCG: Final = (
    *(semconv.LIMIT_MEMCG_PATH, semconv.LIMIT_MEMCG_ID, semconv.LIMIT_MEMCG_LIMIT),
    *(semconv.LIMIT_MEMCG_USAGE, semconv.LIMIT_MEMCG_SWAP_LIMIT, semconv.LIMIT_MEMCG_SWAP_USAGE),
)
TRIGGER_MEMCG: Final = (semconv.TRIGGER_MEMCG_PATH, semconv.TRIGGER_MEMCG_ID)

_POD_IDENTITY: Final = (
    *("k8s.namespace.name", "k8s.pod.name", "k8s.pod.uid", "k8s.container.name"),
)

ERROR_TYPE: Final = "oom_kill"
"""The ``error.type`` of a kill."""


def drop_none(values: Mapping[str, Value | None]) -> Attributes:
    """Drop ``None``, empty arrays and integers beyond OTLP's 64-bit signed ones.

    Long strings are truncated; so are the last strings of long arrays, or dropped.
    """
    attributes: Attributes = {}
    for name, value in values.items():
        if isinstance(value, str):
            attributes[name] = value[:_MAX_VALUE_CHARS]
        elif isinstance(value, int):
            if -_INT64_MAX <= value <= _INT64_MAX:
                attributes[name] = value
        elif isinstance(value, float):
            attributes[name] = value
        elif value:
            attributes[name] = _limit_array(value)
    return attributes


def _limit_array(values: Sequence[str] | Sequence[int]) -> Sequence[str] | Sequence[int]:
    texts = [value for value in values if isinstance(value, str)]
    return _truncate_array(texts) if texts else values


def _truncate_array(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the first texts within the limit of an attribute."""
    kept: list[str] = []
    remaining = _MAX_ARRAY_CHARS
    for text in texts:
        if remaining <= 0:
            break
        kept.append(text[: min(remaining, _MAX_VALUE_CHARS)])
        remaining -= len(kept[-1])
    return tuple(kept)


def process_attributes(
    event: OomKill | UserspaceKill, executable: str | None, snapshot: Snapshot
) -> dict[str, Value | None]:
    """Return the victim as a process, by OpenTelemetry's names and ours."""
    victim, runtime = event.victim, snapshot.runtime
    if victim is None:
        return {}
    settings = runtime.settings.items() if runtime else ()
    return {
        "process.pid": victim.tgid,
        "process.vpid": victim.namespaced_pid,
        "process.parent_pid": victim.ppid,
        "process.creation.time": _creation_time(event, victim),
        "process.executable.name": executable.rpartition("/")[2] if executable else None,
        "process.executable.path": executable,
        "process.real_user.id": victim.uid,
        "process.linux.cgroup": snapshot.cgroup.strip() if snapshot.cgroup else None,
        "process.runtime.name": runtime.name if runtime else None,
        "process.runtime.version": runtime.version if runtime else None,
        semconv.VICTIM_RUNTIME_SETTINGS: [
            format_setting(name, value) for name, value in settings if name != ARGUMENT_FILE
        ],
        semconv.VICTIM_COMM: victim.comm,
        semconv.VICTIM_GID: victim.gid,
        semconv.VICTIM_PID_NAMESPACE: victim.pid_ns,
        semconv.VICTIM_MOUNT_NAMESPACE: victim.mnt_ns,
        semconv.VICTIM_SCORE_ADJ: victim.score_adj,
    }


def _creation_time(event: OomKill | UserspaceKill, victim: Task) -> str | None:
    if victim.start_boottime_ns is None:
        return None
    return format_unix_ns(event.to_unix_ns(victim.start_boottime_ns))


def format_unix_ns(unix_ns: int) -> str:
    """Format a time in ISO 8601, to the millisecond."""
    time = datetime.fromtimestamp(unix_ns // NS_PER_S, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{unix_ns % NS_PER_S // NS_PER_MS:03d}Z"


def provenance_attributes(event: OomEvent) -> dict[str, Value | None]:
    """Return the old log that an event was found in, and the origin of its time."""
    provenance = event.provenance
    if provenance is None:
        return {}
    return {
        semconv.TIME_SOURCE: provenance.time_source,
        "log.file.path": provenance.file,
        semconv.LOG_SOURCE: provenance.source,
    }


def repeat_attributes(repeat: RepeatedKill | None) -> dict[str, Value | None]:
    """Return the place of a kill among those of its victim."""
    if repeat is None:
        return {}
    return {
        semconv.REPEAT_COUNT: repeat.count,
        semconv.REPEAT_FIRST_TIME: format_unix_ns(repeat.first_unix_ns),
    }


def finding_attributes(finding: Finding | None) -> dict[str, Value | None]:
    """Return the cause of a kill, its evidence and the advice."""
    if finding is None:
        return {}
    return {
        semconv.CAUSE: finding.cause,
        semconv.CAUSE_EVIDENCE: finding.evidence,
        semconv.ADVICE: finding.advice,
    }


def memory_attributes(memory: Memory | None) -> dict[str, Value | None]:
    """Return the memory of the victim, in bytes."""
    if memory is None:
        return {}
    return {
        semconv.VICTIM_MEMORY_RESIDENT: memory.resident,
        semconv.VICTIM_MEMORY_TOTAL_VM: memory.total_vm,
        semconv.VICTIM_MEMORY_ANON: memory.anon,
        semconv.VICTIM_MEMORY_FILE: memory.file,
        semconv.VICTIM_MEMORY_SHMEM: memory.shmem,
        semconv.VICTIM_MEMORY_SWAP: memory.swap,
        semconv.VICTIM_MEMORY_PAGE_TABLES: memory.page_tables,
    }


def memcg_attributes(
    names: Sequence[str], memcg: Memcg | None, usage: MemcgUsage | None = None
) -> dict[str, Value | None]:
    """Return a memory cgroup under ``names``: path, inode, and then ``usage`` with its limits."""
    if memcg is None:
        return {}
    values: list[Value | None] = [memcg.path, memcg.id]
    if usage:
        values += [usage.limit, usage.usage, usage.swap_limit, usage.swap_usage]
    return dict(zip(names, values, strict=False))


def systemd_and_pod_attributes(
    enriched: EnrichedKill | EnrichedUserspaceKill,
) -> dict[str, Value | None]:
    """Return the systemd units of the victim, and the class and certainty of its pod."""
    cgroup_path = enriched.cgroup_path
    units = find_units(cgroup_path)
    pod = find_pod_cgroup(cgroup_path, find_pod_uid(enriched.resource))
    return {
        semconv.VICTIM_SYSTEMD_UNIT: units.unit,
        semconv.VICTIM_SYSTEMD_SLICE: units.slice,
        semconv.VICTIM_SYSTEMD_USER_UNIT: units.user_unit,
        semconv.VICTIM_POD_QOS_CLASS: pod.qos_class if pod else None,
        semconv.VICTIM_POD_VERIFIED: _is_pod_verified(enriched),
    }


def _is_pod_verified(enriched: EnrichedKill | EnrichedUserspaceKill) -> bool | None:
    """Return whether no tenant can have made up the kill in the pod; ``None`` without a pod."""
    if "k8s.pod.name" not in enriched.resource:
        return None
    container = enriched.containers.victim
    # Others than a runtime of the host could name any pod.
    is_foreign = bool(container and container.scope)
    is_claimed = not {*enriched.service.claimed}.isdisjoint(_POD_IDENTITY)
    is_forgeable = isinstance(enriched, EnrichedUserspaceKill) and not enriched.verified
    return not (is_foreign or is_claimed or is_forgeable)


def service_attributes(service: ServiceIdentity) -> dict[str, Value | None]:
    """Return who names the service in the resource, and what the victim claims by itself."""
    return {
        semconv.SERVICE_SOURCE: service.source,
        semconv.SERVICE_CLAIMED: service.claimed or None,
        semconv.SERVICE_CLAIMS_DROPPED: service.dropped_count or None,
    }


def trigger_attributes(event: OomEvent) -> dict[str, Value | None]:
    """Return the trigger, with its unit and pod if its cgroup is not the victim's."""
    trigger, memcg = event.trigger, event.trigger_memcg
    attributes = {
        semconv.TRIGGER_PID: trigger.tgid if trigger else None,
        semconv.TRIGGER_TID: trigger.tid if trigger else None,
        semconv.TRIGGER_COMM: trigger.comm if trigger else None,
        semconv.TRIGGER_UID: trigger.uid if trigger else None,
        **memcg_attributes(TRIGGER_MEMCG, memcg),
    }
    own = event.memcg if isinstance(event, OomKill) else None
    if memcg is None or (own and own.path == memcg.path):
        return attributes
    units, pod = find_units(memcg.path), find_pod_cgroup(memcg.path)
    return {
        **attributes,
        semconv.TRIGGER_SYSTEMD_UNIT: units.unit,
        semconv.TRIGGER_SYSTEMD_USER_UNIT: units.user_unit,
        semconv.TRIGGER_POD_UID: pod.uid if pod else None,
    }


def related_container_attributes(containers: EventContainers) -> dict[str, Value | None]:
    """Return the containers except the victim's, which is in the resource, and failed lookups."""
    host, trigger = containers.host, containers.trigger
    errors = {
        f"container {part.id}: {part.error}" for part in containers.parts if part and part.error
    }
    return {
        semconv.CONTAINER_HOST_ID: host.id if host else None,
        semconv.CONTAINER_HOST_NAME: host.name if host else None,
        semconv.CONTAINER_SCOPE: containers.victim.scope or None if containers.victim else None,
        semconv.TRIGGER_CONTAINER_ID: trigger.id if trigger else None,
        semconv.TRIGGER_CONTAINER_NAME: trigger.name if trigger else None,
        semconv.ENRICHMENT_ERROR: sorted(errors),
    }
