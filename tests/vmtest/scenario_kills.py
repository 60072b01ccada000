"""The kills of a scenario, as the scenario itself knows them."""

from __future__ import annotations

from dataclasses import dataclass, field


class NotPlayableError(Exception):
    """This kernel or machine has no such kill; the message is a note in the table."""


@dataclass(frozen=True)
class ScenarioKills:
    """The kills that a scenario has made; ``None`` is what it does not know beforehand."""

    pids: list[int]
    memcg: str | None = None
    memcg_id: int | None = None
    trigger: int | None = None
    """The pid of the allocating process; 0 for none of ours, -1 for any process."""
    scope: str = "own"
    """The limit that was hit, relative to the victim: its `own`, an `ancestor`'s, the `host`'s."""
    already_exiting: list[int] = field(default_factory=list)
    """Those of ``pids`` that are marked while they exit: the kernel neither logs nor counts them,
    so the log cannot have them."""
    skipped: list[int] = field(default_factory=list)
    """Processes that were chosen and exited before they could be killed."""
    unmarked: list[int] = field(default_factory=list)
    """Processes killed by the same decision that are neither marked nor logged nor counted."""
    threads: list[int] = field(default_factory=list)
    """Further threads of ``pids``: in a group the kernel can kill, log and count one of them once
    more, by its own number, when its process is nearly gone."""
    memcgs: dict[str, list[int]] = field(default_factory=dict)
    """The pids by the path of their cgroup, where they were in several."""
    trigger_tid: int | None = None
    """The allocating thread, where it is not the first of its process."""
    memory_and_swap_limit: int | None = None
    """The limit of the cgroup in bytes of memory and swap together, where there is swap."""
    victim_state: str | None = None
    """The state of a victim that does not die, by :func:`otel_oom.snapshot.process_state`."""
    bpftrace_kills: list[list[int | str]] = field(default_factory=list)
    """The kills that bpftrace has traced: thread and name of the allocating task."""
