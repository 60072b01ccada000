"""Bodies of log records: one sentence each, for a person who is woken up by it."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.stack_analysis import StackAnalysis
from otel_oom.enrich.types import EnrichedKill, EnrichedNoVictim, EnrichedPanic
from otel_oom.linux.containers.cgroup_id import find_container_ids
from otel_oom.linux.systemd.units import find_units
from otel_oom.model.events import OomKill
from otel_oom.model.loss import DroppedEvents, MissedKills
from otel_oom.model.snapshot import Container
from otel_oom.model.types import OomControl
from otel_oom.model.units import format_bytes
from otel_oom.otlp.growth import growth_clause

_ID_CHARS: Final = 12

MEMORY_TYPES: Final = {
    "anonymous": "anonymous memory",
    "page_cache": "page cache",
    "shmem": "shared memory or tmpfs",
    "socket": "socket buffers",
    "kernel": "kernel memory",
    "page_table": "a page table",
}
"""Values of ``oom.request.memory_type`` in words."""

ENTRY_POINTS: Final = {"page_fault": "in a page fault", "kernel_thread": "in a kernel thread"}
_CONSTRAINTS: Final = {
    "cpuset": " on the nodes of its cpuset",
    "memory_policy": " on the nodes of its memory policy",
}
_OUTCOMES: Final = {
    "killed": "The kernel's OOM killer killed {victim}",
    "already_exiting": "The kernel's OOM killer chose {victim}, which was already exiting",
    "skipped": (
        "The kernel's OOM killer chose {victim}, but did not kill it, because it had already "
        "released its memory"
    ),
}
_MISSED_REASONS: Final = {
    "before_first_start": "the agent was not started yet",
    "buffer_full": "the ring buffer was full",
    "unknown": "neither the agent nor the kernel log has a record",
}


def kill_body(enriched: EnrichedKill) -> str:
    """Return the victim, its location and memory, the limit that was hit, and the request."""
    kill = enriched.event
    location = location_phrase(enriched.containers.victim, enriched.cgroup_path)
    pid = "" if kill.victim.tgid is None else f" (pid {kill.victim.tgid})"
    victim = f"{kill.victim.comm or 'a process'}{pid}{location}"
    # Not format(): the name of a process may contain braces.
    parts = [_OUTCOMES[enriched.outcome].replace("{victim}", victim)]
    if kill.memory:
        parts.append(f"; it used {format_bytes(kill.memory.resident)} of memory")
        if kill.memory.swap:
            parts.append(f" and {format_bytes(kill.memory.swap)} of swap")
    trigger_location = _trigger_location(enriched, location)
    request = _request_phrase(kill, enriched.stack_analysis, trigger_location)
    limit = _limit_phrase(enriched) + growth_clause(enriched.growth)
    return "".join([*parts, limit, request, "."])


def no_victim_body(enriched: EnrichedNoVictim) -> str:
    """Return the limit that was hit, the trigger and the request."""
    event = enriched.event
    memcg = event.decision.memcg if event.decision else None
    limit = _limit_size(event.decision) if event.decision else ""
    where = f"in the cgroup {memcg.path} at its limit{limit}" if memcg else "on the host"
    trigger = event.trigger
    process = f"{trigger.comm or 'a process'} (pid {trigger.tgid})" if trigger else "a process"
    repeats = f" (repeated {event.repeat_count} times)" if event.repeat_count else ""
    return (
        f"The kernel's OOM killer found no killable process {where} when {process} requested "
        f"{_requested_memory(enriched.stack_analysis)}{repeats}."
    )


def panic_body(enriched: EnrichedPanic) -> str:
    """Return the message of the panic, the limit that was hit, the trigger and the request."""
    event = enriched.event
    memcg = event.decision.memcg if event.decision else None
    cause = "the host was out of memory"
    if memcg and event.decision:
        cause = f"the cgroup {memcg.path} reached its limit{_limit_size(event.decision)}"
    elif enriched.stack_analysis.origin == "memcg":
        cause = "a cgroup reached its limit"
    thread = f" (thread {event.tid})" if event.tid is not None else ""
    message = f' ("{event.message}")' if event.message else ""
    return (
        f"Out-of-memory kernel panic{message}: the whole host went down, because {cause} when "
        f"{event.comm or 'a process'}{thread} requested "
        f"{_requested_memory(enriched.stack_analysis)}."
    )


def missed_body(event: MissedKills) -> str:
    """Return the number of missed kills and the reason."""
    count = f"Up to {event.count}" if event.upper_bound else f"{event.count}"
    verb = "was" if event.count == 1 else "were"
    if event.killer:
        return (
            f"{count} OOM kills in {event.unit} by {event.killer}, counted by systemd, {verb} not "
            f"captured: {_MISSED_REASONS.get(event.reason, event.reason)}."
        )
    return (
        f"{count} of {event.kernel_count} OOM kills counted by the kernel this boot {verb} not "
        f"captured: {_MISSED_REASONS.get(event.reason, event.reason)}."
    )


def dropped_body(event: DroppedEvents) -> str:
    """Return what was dropped, and of which cgroup."""
    return (
        f"The store of otel-oom was at its size limit and dropped undelivered data of "
        f"{event.holder or 'several cgroups'}: {event.count} events, {event.report_count} kernel "
        f"reports, {event.dead_letter_count} dead letters."
    )


def location_phrase(container: Container | None, cgroup_path: str) -> str:
    """Return the name and short id of the container; without one, the systemd unit.

    A user names a unit of its manager, so that manager follows.
    """
    if container is None:
        units = find_units(cgroup_path)
        names = [name for name in (units.user_unit, units.unit) if name]
        return f" in {' of '.join(names)}" if names else ""
    if container.name is None:
        return f" in container {container.id[:_ID_CHARS]}"
    return f" in container {container.name} ({container.id[:_ID_CHARS]})"


def _trigger_location(enriched: EnrichedKill, victim_location: str) -> str:
    """Return the container or unit of the trigger; empty if it is the victim's."""
    kill, containers = enriched.event, enriched.containers
    path = kill.trigger_memcg.path if kill.trigger_memcg else ""
    own = containers.victim
    if own:
        ids = find_container_ids(kill.memcg.path) if kill.memcg else ()
        cgroup = next((each.cgroup for each in ids if each.id == own.id), None)
        # Without the cgroup of the victim's container, the trigger may be in it.
        if cgroup is None or f"{path}/".startswith(f"{cgroup}/"):
            path = ""
    location = location_phrase(containers.trigger, path)
    return "" if location == victim_location else location


def _limit_phrase(enriched: EnrichedKill) -> str:
    kill, scope = enriched.event, enriched.limit_scope
    usage = kill.memcg_usage
    if kill.memcg and kill.decision and scope == "own":
        return f"; its cgroup {kill.memcg.path} reached its limit{_limit_size(kill.decision)}"
    own = f"; its cgroup is {kill.memcg.path}" if kill.memcg else ""
    if own and scope in {"pod", "ancestor"} and kill.decision and kill.decision.memcg:
        owner = "in the pod cgroup" if scope == "pod" else "below"
        limit = f"which reached its limit{_limit_size(kill.decision)}"
        return f"{own}, {owner} {kill.decision.memcg.path}, {limit}"
    if own and usage and usage.limit is not None:
        own += f" with a limit of {format_bytes(usage.limit)}"
    elif own and usage and usage.usage is not None:
        own += " without a limit of its own"
    if scope == "host" and enriched.stack_analysis.origin != "sysrq":
        constraint = kill.decision.constraint if kill.decision else None
        own += f"; the host was out of memory{_CONSTRAINTS.get(constraint or '', '')}"
    return own


def _limit_size(decision: OomControl) -> str:
    limit = decision.memcg_usage.limit if decision.memcg_usage else None
    return "" if limit is None else f" of {format_bytes(limit)}"


_BY_SYSRQ: Final = "; the kill was requested by sysrq"


def _request_phrase(kill: OomKill, stack_analysis: StackAnalysis, location: str) -> str:
    """Return the trigger and its request, as far as they are known.

    ``location`` is the trigger's container or unit, where that is not the victim's.
    """
    trigger = kill.trigger
    if stack_analysis.origin == "sysrq":
        return f"; {kill.killer.name} requested it by sysrq" if kill.killer else _BY_SYSRQ
    is_victim = trigger is not None and trigger.tgid == kill.victim.tgid
    if trigger is None or (is_victim and stack_analysis.memory_type is None):
        return ""
    other = f"{trigger.comm or 'another process'} (pid {trigger.tgid})"
    memory = _requested_memory(stack_analysis)
    return f"; {'it' if is_victim else other}{location} requested {memory}"


def _requested_memory(stack_analysis: StackAnalysis) -> str:
    memory = MEMORY_TYPES.get(stack_analysis.memory_type or "", "memory")
    entry_point = stack_analysis.entry_point
    if entry_point is None:
        return memory
    return f"{memory} {ENTRY_POINTS.get(entry_point) or f'by {entry_point}()'}"
