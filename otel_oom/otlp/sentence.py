"""A kill as one sentence for the body, readable at three in the morning."""

from __future__ import annotations

from otel_oom.enrich import EnrichedKill

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_ID_CHARS = 12


def size(count: int) -> str:
    """``count`` bytes in the largest unit that leaves at least one: ``49.6 MiB``."""
    value = float(count)
    for unit in _UNITS:
        if value < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


_MEMORY = {
    "anonymous": "anonymous memory",
    "page_cache": "page cache",
    "shmem": "shared memory or tmpfs",
    "socket": "a socket's buffers",
    "kernel": "kernel memory",
    "page_table": "a page table",
    "huge_page": "a huge page",
}
_ENTRY = {"page_fault": "in a page fault", "kernel_thread": "in a kernel thread"}


def _request(enriched: EnrichedKill) -> str:
    """Who asked for what, and by which call, as far as it is known: the end of the sentence."""
    kill, decision = enriched.kill, enriched.decision
    if decision.by == "sysrq":
        return "; it was asked for by sysrq"
    itself = kill.trigger.tgid == kill.victim.tgid
    if itself and decision.memory is None:
        return ""
    other = f"{kill.trigger.comm or 'another process'} (pid {kill.trigger.tgid})"
    asked = (
        f"; {'it' if itself else other} asked for {_MEMORY.get(decision.memory or '', 'memory')}"
    )
    if decision.entry:
        asked += f" {_ENTRY.get(decision.entry) or f'by {decision.entry}()'}"
    return asked


def sentence(enriched: EnrichedKill) -> str:
    """What was killed, where, and how much memory it and its cgroup had; one sentence."""
    kill, limits = enriched.kill, enriched.witness.limits
    victim = f"{kill.victim.comm or 'a process'} (pid {kill.victim.tgid})"
    parts = [f"The kernel's OOM killer killed {victim}"]
    if enriched.decision.already_exiting:
        parts = [f"The kernel's OOM killer chose {victim}, which was already exiting,"]
    container = enriched.resource.get("container.id")
    if container:
        parts.append(f" in container {container[:_ID_CHARS]}")
    if kill.memory:
        parts.append(f", which held {size(kill.memory.resident)} of memory")
        if kill.memory.swap:
            parts.append(f" and {size(kill.memory.swap)} of swap")
    if kill.memcg:
        parts.append(f"; its cgroup is {kill.memcg.path}")
        if limits and limits.limit is not None:
            parts.append(f" and may use {size(limits.limit)}")
        elif limits and limits.usage is not None:
            parts.append(" and has no limit of its own")
    parts.append(_request(enriched))
    return "".join(parts) + "."
