"""The limit of attributes: a backend may reject the whole record for one too many.

Loki accepts 128 for a log record and its resource together by default
(``limits_config.max_structured_metadata_entries_count``), and adds a dozen of its own for severity,
times, scope and trace. The SDKs of OpenTelemetry limit a record to 128 as well.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.attributes import BoundedAttributes

from otel_oom.otlp import semconv
from otel_oom.otlp.semconv import Attributes

MAX_ATTRIBUTES: Final = 112
"""For a record and its resource together."""

_DROP_ORDER: Final = (
    *(semconv.HOST_SYSCTL_VM, semconv.HOST_PRESSURE),
    *(semconv.VICTIM_MEMCG_PRESSURE, semconv.VICTIM_MEMCG_EVENTS, semconv.VICTIM_MEMCG_STAT),
    semconv.HOST_MEMORY,
    *(semconv.LIMIT_MEMCG_PRESSURE, semconv.LIMIT_MEMCG_EVENTS, semconv.LIMIT_MEMCG_STAT),
    *("oom.trigger.", "container.label."),
)
"""Prefixes in the order of dropping: circumstances go before the kill itself."""


def limit_attributes(attributes: Attributes, resource_count: int = 0) -> BoundedAttributes:
    """Drop the least important attributes of a log record beyond the limit, and count them.

    ``resource_count`` is the number of attributes of its resource.
    """
    excess = max(0, len(attributes) - max(0, MAX_ATTRIBUTES - resource_count))
    dropped = set(sorted(attributes, key=_drop_rank)[:excess])
    kept = {name: value for name, value in attributes.items() if name not in dropped}
    bounded = BoundedAttributes(attributes=kept)
    # With a limit of its own, BoundedAttributes would log each dropped attribute.
    bounded.dropped = excess
    return bounded


def _drop_rank(name: str) -> int:
    for rank, prefix in enumerate(_DROP_ORDER):
        if name.startswith(prefix):
            return rank
    return len(_DROP_ORDER)
