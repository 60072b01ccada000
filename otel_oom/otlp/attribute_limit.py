"""No more attributes than a backend takes: one too many can cost the whole record.

Loki takes 128 of a log record and its resource together, unless told otherwise
(``limits_config.max_structured_metadata_entries_count``), and a dozen of them are its own words for
severity, times, scope and trace. The SDKs of OpenTelemetry keep to 128 of a record as well.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.attributes import BoundedAttributes

from otel_oom.otlp import semconv
from otel_oom.otlp.types import Attributes

MOST: Final = 112
"""Of a record and its resource."""

_FIRST_TO_GO: Final = (
    semconv.SYSCTL_VM,
    semconv.HOST_PRESSURE,
    semconv.MEMCG_PRESSURE,
    semconv.MEMCG_EVENTS,
    semconv.MEMCG_STAT,
    semconv.HOST_MEMORY,
    semconv.LIMIT_MEMCG_PRESSURE,
    semconv.LIMIT_MEMCG_EVENTS,
    semconv.LIMIT_MEMCG_STAT,
    "oom.trigger.",
    "container.label.",
)
"""What is around a kill goes before what the kill is."""


def bounded(attributes: Attributes, beside: int = 0) -> BoundedAttributes:
    """``attributes``, less the least of them where they are too many; counts what it left out.

    Args:
        attributes: of a log record.
        beside: how many its resource has.
    """
    too_many = max(0, len(attributes) - max(0, MOST - beside))
    left_out = set(sorted(attributes, key=_rank)[:too_many])
    kept = {name: value for name, value in attributes.items() if name not in left_out}
    told = BoundedAttributes(attributes=kept)
    # Left to find that out by itself, it would log each.
    told.dropped = too_many
    return told


def _rank(name: str) -> int:
    for rank, prefix in enumerate(_FIRST_TO_GO):
        if name.startswith(prefix):
            return rank
    return len(_FIRST_TO_GO)
