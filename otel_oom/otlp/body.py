"""A kill as one sentence for the body, readable at three in the morning."""

from __future__ import annotations

from otel_oom.enrich import EnrichedKill, EnrichedNoVictim, EnrichedPanic
from otel_oom.enrich.cgroup_path import cgroup_path
from otel_oom.enrich.stack_analysis import StackAnalysis
from otel_oom.linux.systemd.units import find_units
from otel_oom.model.container import Container
from otel_oom.model.events import MissedKills, OomKill
from otel_oom.model.types import Memcg, OomControl
from otel_oom.model.units import format_bytes

_ID_CHARS = 12


MEMORY = {
    "anonymous": "anonymous memory",
    "page_cache": "page cache",
    "shmem": "shared memory or tmpfs",
    "socket": "a socket's buffers",
    "kernel": "kernel memory",
    "page_table": "a page table",
}
_ENTRY = {"page_fault": "in a page fault", "kernel_thread": "in a kernel thread"}


def _request(kill: OomKill, origin: StackAnalysis, inside: str) -> str:
    """Who asked for what, and by which call, as far as it is known: the end of the sentence.

    ``inside`` is the trigger's container or unit, where that is another than the victim's.
    """
    trigger = kill.trigger
    if origin.by == "sysrq":
        return "; it was asked for by sysrq"
    if trigger is None or (trigger.tgid == kill.victim.tgid and origin.memory is None):
        return ""
    itself = trigger.tgid == kill.victim.tgid
    other = f"{trigger.comm or 'another process'} (pid {trigger.tgid})"
    return f"; {'it' if itself else other}{inside} asked for {_asked(origin)}"


def inside_of(container: Container | None, path: str) -> str:
    """The container by what people call it, and the part of its id that tools print.

    Where there is none, the systemd unit, a user's own rather than that user's manager.
    """
    if container is None:
        units = find_units(path)
        unit = units.user_unit or units.unit
        return f" in {unit}" if unit else ""
    if container.name is None:
        return f" in container {container.id[:_ID_CHARS]}"
    return f" in container {container.name} ({container.id[:_ID_CHARS]})"


def _asked(origin: StackAnalysis) -> str:
    asked = MEMORY.get(origin.memory or "", "memory")
    if origin.entry:
        asked += f" {_ENTRY.get(origin.entry) or f'by {origin.entry}()'}"
    return asked


def _limit(enriched: EnrichedKill) -> str:
    """The victim's cgroup, and whose limit it was."""
    kill, limits, scope = enriched.kill, enriched.limits, enriched.limit_scope
    own = f"; its cgroup is {kill.memcg.path}" if kill.memcg else ""
    if scope == "own" and kill.decision and own:
        return f"{own}, whose own limit{_bound(kill.decision)} was hit"
    if scope in {"pod", "ancestor"} and kill.decision and kill.decision.memcg and own:
        whose = "its pod's" if scope == "pod" else "an ancestor's"
        hit = f"{whose} limit{_bound(kill.decision)} was hit, that of {kill.decision.memcg.path}"
        return f"{own}, and {hit}"
    if own and limits and limits.limit is not None:
        own += f" and may use {format_bytes(limits.limit)}"
    elif own and limits and limits.usage is not None:
        own += " and has no limit of its own"
    if scope == "host" and enriched.origin.by != "sysrq":
        own += f"; the host had no memory left{_bounded_by(kill.decision)}"
    return own


def _bound(decision: OomControl) -> str:
    limit = decision.memcg_usage.limit if decision.memcg_usage else None
    return "" if limit is None else f" of {format_bytes(limit)}"


_CONSTRAINTS = {
    "cpuset": " on the nodes of its cpuset",
    "memory_policy": " on the nodes of its memory policy",
}


def _bounded_by(decision: OomControl | None) -> str:
    return _CONSTRAINTS.get(decision.constraint or "", "") if decision else ""


def _of_trigger(enriched: EnrichedKill, of_victim: str) -> str:
    """The trigger's container or unit; nothing where it is the victim's own."""
    kill, containers = enriched.kill, enriched.containers
    path = kill.trigger_memcg.path if kill.trigger_memcg else ""
    own = containers.victim
    # In the victim's container it is in no other; where no cgroup has its name, nobody can tell.
    if own and (own.id in path or not kill.memcg or own.id not in kill.memcg.path):
        path = ""
    inside = inside_of(containers.trigger, path)
    return "" if inside == of_victim else inside


_OUTCOMES = {
    "killed": "The kernel's OOM killer killed {victim}",
    "already_exiting": "The kernel's OOM killer chose {victim}, which was already exiting,",
    "skipped": (
        "The kernel's OOM killer chose {victim} and did not kill it, for it had already let go of "
        "its memory"
    ),
}


def sentence(enriched: EnrichedKill) -> str:
    """What was killed, where, whose limit it was, and who asked for which memory; one sentence."""
    kill = enriched.kill
    inside = inside_of(enriched.containers.victim, cgroup_path(kill, enriched.witness))
    victim = kill.victim.comm or "a process"
    victim += "" if kill.victim.tgid is None else f" (pid {kill.victim.tgid})"
    victim += inside
    # Not format(): a victim may have braces in its name.
    parts = [_OUTCOMES[enriched.outcome].replace("{victim}", victim)]
    if kill.memory:
        parts.append(f", which held {format_bytes(kill.memory.resident)} of memory")
        if kill.memory.swap:
            parts.append(f" and {format_bytes(kill.memory.swap)} of swap")
    parts += [_limit(enriched), _request(kill, enriched.origin, _of_trigger(enriched, inside))]
    return "".join(parts) + "."


def no_victim_sentence(enriched: EnrichedNoVictim) -> str:
    """Whose limit was hit and who asked for memory when there was nobody to kill; one sentence."""
    event = enriched.event
    memcg: Memcg | None = event.decision.memcg if event.decision else None
    where = f"in the cgroup {memcg.path}" if memcg else "on the host"
    trigger = event.trigger
    who = f"{trigger.comm or 'a process'} (pid {trigger.tgid})" if trigger else "a process"
    limit = _bound(event.decision) if event.decision and memcg else ""
    hit = f", whose limit{limit} was hit," if memcg else ""
    repeats = f"; it was found {event.repeat_count} times more" if event.repeat_count else ""
    return (
        f"The kernel's OOM killer found no process that it may kill {where}{hit} when {who} asked "
        f"for {_asked(enriched.origin)}{repeats}."
    )


def panic_sentence(enriched: EnrichedPanic) -> str:
    """Why the host went down, whose limit was hit, and who asked for which memory; one sentence."""
    event = enriched.event
    memcg: Memcg | None = event.decision.memcg if event.decision else None
    why = "the host had no memory left"
    if memcg and event.decision:
        why = f"the limit{_bound(event.decision)} of the cgroup {memcg.path} was hit"
    elif enriched.origin.by == "memcg":
        why = "a cgroup's limit was hit"
    thread = f" (thread {event.tid})" if event.tid is not None else ""
    who = f"{event.comm}{thread}" if event.comm else f"a process{thread}"
    said = f' and said "{event.message}"' if event.message else ""
    return (
        f"The kernel panicked for want of memory{said}, and this host went down with everything on "
        f"it: {why} when {who} asked for {_asked(enriched.origin)}."
    )


_REASONS = {
    "before_first_start": "they were before this agent was first started on this boot",
    "buffer_full": "the kernel's buffer had no room for them",
    "unknown": "neither the agent nor the kernel's log has seen them",
}


def missed_sentence(event: MissedKills) -> str:
    """How many kills are missing, and why as far as that is known; one sentence."""
    kills = "1 OOM kill" if event.count == 1 else f"{event.count} OOM kills"
    count = f"At most {kills}" if event.upper_bound else kills
    verb = "is" if event.count == 1 else "are"
    reason = _REASONS.get(event.reason, event.reason)
    return (
        f"{count} of the {event.kernel_count} that the kernel counts on this boot {verb} told by "
        f"no event: {reason}."
    )
