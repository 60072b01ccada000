"""Labels of the counter ``oom.kills``, as JSON; a host has few distinct ones."""

from __future__ import annotations

import json

from otel_oom.enrich.types import EnrichedKill, EnrichedUserspaceKill
from otel_oom.otlp import semconv


def kill_label(enriched: EnrichedKill) -> str:
    """Return the label of a kill by the kernel."""
    decision = enriched.event.decision
    constraint = decision.constraint if decision else None
    return format_label(enriched.outcome, constraint, enriched.limit_scope)


def userspace_label(enriched: EnrichedUserspaceKill) -> str:
    """Return the label of a userspace kill."""
    return format_label(enriched.outcome, None, None, enriched.event.killer.name)


def missed_label() -> str:
    """Return the label of kills that only the kernel's own count reports."""
    return format_label("missed", None, None)


def format_label(
    outcome: str, constraint: str | None, scope: str | None, killer: str | None = None
) -> str:
    """Format a label; unknown values are omitted, and so is the kernel as the killer."""
    attributes = {
        semconv.OUTCOME: outcome,
        semconv.KILLER_NAME: killer,
        semconv.DECISION_CONSTRAINT: constraint,
        semconv.LIMIT_SCOPE: scope,
    }
    return json.dumps({name: value for name, value in attributes.items() if value is not None})
