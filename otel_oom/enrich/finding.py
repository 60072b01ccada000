"""The finding on a kill: its cause, the evidence, and advice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from otel_oom.enrich.badness import RankedTask

Cause = Literal[
    "requested",
    "unreclaimable_memory",
    "spared_process",
    "contention",
    "runtime_setting",
    "leak",
    "spike",
    "single_process",
    "numa_constraint",
    "fragmentation",
    "host_memory",
    "unknown",
]
"""The values of ``oom.cause``; docs/causes.md has the rule of each."""

Evidence = Mapping[str, object]
"""Attributes of the event, by name; unknown values are ``None``."""


class Finding(Struct, frozen=True):
    """The cause of a kill.

    ``evidence`` has the attributes that decided, each as ``name=value``. ``advice`` is one line;
    ``None`` if there is none to give.
    """

    cause: Cause
    evidence: tuple[str, ...] = ()
    advice: str | None = None


UNKNOWN: Final = Finding("unknown")


def format_evidence(*values: Evidence) -> tuple[str, ...]:
    """Format attributes as ``name=value``, without unknown ones."""
    return tuple(
        f"{name}={value}"
        for attributes in values
        for name, value in attributes.items()
        if value is not None
    )


def victim_evidence(victim: RankedTask) -> Evidence:
    """Return the memory of the victim."""
    task = victim.task
    return {
        "oom.victim.memory.resident": task.resident,
        "oom.victim.memory.swap": task.swap or None,
        "oom.victim.memory.page_tables": task.page_tables or None,
    }


def task_evidence(ranked: RankedTask) -> Evidence:
    """Return the fields of another process, as its line of ``oom.tasks.largest`` has them."""
    task = ranked.task
    fields = {
        "pid": task.tgid,
        "resident": task.resident,
        "swap": task.swap or None,
        "score_adj": task.score_adj,
    }
    words = (f"{name}={value}" for name, value in fields.items() if value is not None)
    return {"oom.tasks.largest": " ".join(words)}
