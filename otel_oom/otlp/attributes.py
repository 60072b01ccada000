"""The flat attributes that a kill's log event and span share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from otel_oom.enrich import EnrichedKill
from otel_oom.event import OomKill, Task
from otel_oom.otlp import names
from otel_oom.witness import Witness

Attributes = dict[str, str | int | bool]

_INT64_MAX: Final = (1 << 63) - 1
_VALUE_CHARS: Final = 4096
_NS_PER_S: Final = 1_000_000_000


def kill_attributes(enriched: EnrichedKill) -> Attributes:
    """Every attribute of the kill itself; what is not known is left out."""
    kill, witness = enriched.kill, enriched.witness
    return _known(
        {
            "log.record.uid": kill.uid,
            **_process(enriched),
            names.VICTIM_COMM: kill.victim.comm,
            names.VICTIM_GID: kill.victim.gid,
            names.VICTIM_PID_NS: kill.victim.pid_ns,
            names.VICTIM_MNT_NS: kill.victim.mnt_ns,
            names.VICTIM_SCORE_ADJ: kill.victim.score_adj,
            **_memory(kill),
            **_memcg(kill, witness),
            **_trigger(kill.trigger),
            names.OUTCOME: "already_exiting" if enriched.decision.already_exiting else "killed",
            names.INCIDENT_ID: kill.incident or kill.uid,
            names.DECISION_BY: enriched.decision.by,
            names.DECISION_STACK: "\n".join(kill.stack) or None,
            names.REQUEST_MEMORY: enriched.decision.memory,
            names.REQUEST_ENTRY: enriched.decision.entry,
            names.CAPTURE_SOURCE: kill.capture.source,
            names.CAPTURE_HOOK: kill.capture.hook,
        }
    )


def _process(enriched: EnrichedKill) -> dict[str, str | int | None]:
    kill, witness, executable = enriched.kill, enriched.witness, enriched.executable
    return {
        "process.pid": kill.victim.tgid,
        "process.vpid": kill.victim.ns_tgid,
        "process.parent_pid": kill.victim.ppid,
        "process.creation.time": _creation_time(kill),
        "process.executable.name": executable.rpartition("/")[2] if executable else None,
        "process.executable.path": executable,
        "process.real_user.id": kill.victim.uid,
        "process.linux.cgroup": witness.cgroup.strip() if witness.cgroup else None,
    }


def _creation_time(kill: OomKill) -> str | None:
    """The victim's start in ISO 8601, from its distance to the kill on the kernel's clock."""
    if kill.victim.started_ns is None:
        return None
    unix_ns = kill.unix_ns_of(kill.victim.started_ns)
    started = datetime.fromtimestamp(unix_ns // _NS_PER_S, UTC)
    millis = unix_ns % _NS_PER_S // 1_000_000
    return f"{started:%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def _memory(kill: OomKill) -> dict[str, int | None]:
    memory = kill.memory
    if memory is None:
        return {}
    return {
        names.MEMORY_TOTAL_VM: memory.total_vm,
        names.MEMORY_ANON: memory.anon,
        names.MEMORY_FILE: memory.file,
        names.MEMORY_SHMEM: memory.shmem,
        names.MEMORY_SWAP: memory.swap,
        names.MEMORY_PAGE_TABLES: memory.page_tables,
    }


def _memcg(kill: OomKill, witness: Witness) -> dict[str, str | int | None]:
    memcg, limits = kill.memcg, witness.limits
    return {
        names.MEMCG_PATH: memcg.path if memcg else None,
        names.MEMCG_ID: memcg.id if memcg else None,
        names.MEMCG_LIMIT: limits.limit if limits else None,
        names.MEMCG_USAGE: limits.usage if limits else None,
        names.MEMCG_SWAP_LIMIT: limits.swap_limit if limits else None,
        names.MEMCG_SWAP_USAGE: limits.swap_usage if limits else None,
    }


def _trigger(trigger: Task) -> dict[str, str | int | None]:
    return {
        names.TRIGGER_PID: trigger.tgid,
        names.TRIGGER_TID: trigger.tid,
        names.TRIGGER_COMM: trigger.comm,
        names.TRIGGER_UID: trigger.uid,
    }


def _known(values: Mapping[str, str | int | None]) -> Attributes:
    """``values`` without what is unknown or does not fit OTLP's 64-bit signed integer."""
    known: Attributes = {}
    for name, value in values.items():
        if isinstance(value, str):
            known[name] = value[:_VALUE_CHARS]
        elif value is not None and -_INT64_MAX <= value <= _INT64_MAX:
            known[name] = value
    return known
