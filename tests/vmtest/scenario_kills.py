"""What a scenario tells of the kills that it made."""

from __future__ import annotations

from dataclasses import dataclass, field


class UnplayableError(Exception):
    """There is no such kill on this kernel or machine; the message says why, for the table."""


@dataclass(frozen=True)
class Made:
    """What a scenario has had killed; ``None`` is what it does not know beforehand."""

    pids: list[int]
    memcg: str | None = None
    memcg_id: int | None = None
    trigger: int | None = None
    """The process whose request it was; 0 for none of ours, -1 for whoever came."""
    scope: str = "own"
    """Whose limit was hit, seen from the victim: its `own`, an `ancestor`'s, the `host`'s."""
    already_exiting: list[int] = field(default_factory=list)
    """Those of ``pids`` that are marked while they exit by themselves: the kernel neither logs
    nor counts them, and no log can tell of them."""
    skipped: list[int] = field(default_factory=list)
    """Who was chosen and gone before it could be killed."""
    untold: list[int] = field(default_factory=list)
    """Who died by the same decision, and is neither marked nor logged nor counted."""
    threads: list[int] = field(default_factory=list)
    """Further threads of ``pids``: of a group's process that is nearly gone the kernel can kill,
    log and count one more, by its own number."""
    memcgs: dict[str, list[int]] = field(default_factory=dict)
    """Where they were in several cgroups: the pids by the cgroup's path."""
    trigger_tid: int | None = None
    """The thread of the trigger, where that is not its first."""
    with_swap: int | None = None
    """Bytes of memory and swap together that the cgroup may have, where there is swap."""
    state: str | None = None
    """Of a victim that does not die, what :func:`otel_oom.snapshot.still_alive` says."""
    traced: list[list[int | str]] = field(default_factory=list)
    """What another tracer saw: of each kill the thread that asked, and its name."""
