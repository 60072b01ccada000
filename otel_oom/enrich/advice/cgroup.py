"""Advice where a cgroup's limit was hit."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from otel_oom.enrich.advice.inputs import AdviceInput, who, whose
from otel_oom.model.text import quote_text
from otel_oom.model.units import format_bytes

_KINDS: Final = (
    (
        ("shmem",),
        (
            "are shared memory or tmpfs, which can stay when processes end: look for files there "
            "(/dev/shm, volumes in memory)"
        ),
    ),
    (("sock",), "are buffers of sockets: have whoever reads from them keep up"),
    (
        ("kernel",),
        (
            "are kernel memory, which no process shows as its own: look at what they have open "
            "(files, pipes, threads, mappings)"
        ),
    ),
    (
        ("file_dirty", "file_writeback"),
        "wait to be written to a disk that is slower than who writes: have it write less at once",
    ),
)
"""Parts of memory.stat that no process is to blame for, and what to do about each."""


def kind(facts: AdviceInput) -> str | None:
    """Most of it was of a kind that is not what processes hold."""
    for names, what in _KINDS:
        held = sum(facts.parts.get(name, 0) for name in names)
        if facts.limit is not None and held * 2 >= facts.limit:
            return (
                f"{format_bytes(held)} of the limit of {format_bytes(facts.limit)} {what} before "
                f"raising the limit of {whose(facts)}."
            )
    return None


def neighbours(facts: AdviceInput) -> str | None:
    """The limit is shared, and another cgroup had more of it than the victim's."""
    if facts.enriched.limit_scope not in {"pod", "ancestor"} or facts.limit is None:
        return None
    held: dict[str, int] = defaultdict(int)
    for one in facts.enriched.candidates:
        held[one.candidate.memcg or ""] += one.candidate.total_bytes
    own = facts.victim.candidate.memcg or ""
    most = max(held, key=lambda path: held[path])
    if not most or most == own or held[most] * 4 < facts.limit:
        return None
    return (
        f"The limit of {format_bytes(facts.limit)} is shared, and {quote_text(most)} had at least "
        f"{format_bytes(held[most])} of it, more than the victim's cgroup: give that one a limit "
        f"of its own, or raise the limit of {whose(facts)}."
    )


def alone(facts: AdviceInput) -> str | None:
    """It was the victim itself."""
    held = facts.victim.candidate.total_bytes
    if facts.limit is None or held * 2 < facts.limit:
        return None
    room = f" (the host had {format_bytes(facts.spare)} left)" if facts.spare >= facts.limit else ""
    return (
        f"{who(facts.victim)} alone held {format_bytes(held)} of the limit of "
        f"{format_bytes(facts.limit)}: have it use less, or raise the limit of "
        f"{whose(facts)}{room}."
    )
