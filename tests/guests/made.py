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
    traced: list[list[int | str]] = field(default_factory=list)
    """What another tracer saw: of each kill the thread that asked, and its name."""
