"""The rules of ``OTEL_OOM_EXCLUDE`` and ``OTEL_OOM_INCLUDE``, applied to enriched events."""

from __future__ import annotations

import re
from fnmatch import translate

from otel_oom.config.filters import EXCLUDE, INCLUDE, EventRule, FilterConfig
from otel_oom.enrich.types import (
    EnrichedEvent,
    EnrichedKill,
    EnrichedNearLimit,
    EnrichedNoVictim,
    EnrichedUserspaceKill,
)

_Values = tuple[str | None, str | None, str | None]
"""The cgroup, comm and scope of an event; ``None`` if unknown."""


class EventFilter:
    """Decision about which events are sent.

    A value that is not known meets no condition of an exclusion, and any of an inclusion. Panics,
    missed kills and dropped events are always sent: they are about the host and the agent.
    """

    def __init__(self, config: FilterConfig) -> None:
        self._exclude = [_Rule(rule) for rule in config.exclude]
        self._include = [_Rule(rule) for rule in config.include]

    def find_exclusion(self, enriched: EnrichedEvent) -> str | None:
        """Return the variable that excludes an event; ``None`` if it is sent."""
        values = _values(enriched)
        if values is None:
            return None
        if any(rule.match(values) is True for rule in self._exclude):
            return EXCLUDE
        if self._include and all(rule.match(values) is False for rule in self._include):
            return INCLUDE
        return None


class _Rule:
    def __init__(self, rule: EventRule) -> None:
        globs = (rule.cgroup, rule.comm, rule.scope)
        self._patterns = [re.compile(translate(glob)) if glob else None for glob in globs]

    def match(self, values: _Values) -> bool | None:
        """Return whether all conditions hold; ``None`` if that is not known."""
        results = [
            value if value is None else pattern.match(value) is not None
            for pattern, value in zip(self._patterns, values, strict=True)
            if pattern
        ]
        if False in results:
            return False
        return None if None in results else True


def _values(enriched: EnrichedEvent) -> _Values | None:
    match enriched:
        case EnrichedKill(event=kill):
            return enriched.cgroup_path or None, kill.victim.comm, enriched.limit_scope
        case EnrichedUserspaceKill(event=kill):
            comm = kill.victim.comm if kill.victim else None
            return enriched.cgroup_path or None, comm, None
        case EnrichedNoVictim(event=event):
            memcg = event.decision.memcg if event.decision else None
            return memcg.path if memcg else None, None, None
        case EnrichedNearLimit(event=near):
            return near.memcg.path, None, "own"
        case _:
            return None
