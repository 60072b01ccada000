"""Repeats: kills of one thread name in one container, pod owner or unit.

The names are those of ``oom.repeat.count``, whose own key is in no event. A report counts the kills
of its time alone, however far they are apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from otel_oom.commands.history import labels
from otel_oom.enrich.kubernetes import find_workload
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_UNIT: Final = "unit "
_HOUR_NS: Final = 3600 * NS_PER_S


def repeat_key(event: DecodedEvent) -> tuple[str, str] | None:
    """Return owner and thread name, which outlive a restart; ``None`` without an owner."""
    resource = event.resource
    owner = labels.owner_label(event)
    if resource.text("k8s.pod.name"):
        workload = find_workload(resource.values)
        parts = (resource.text("k8s.namespace.name"), workload, resource.text("k8s.container.name"))
        claimed = labels.claim_suffix(event, "k8s.namespace.name", "k8s.pod.name")
        owner = f"pods of {'/'.join(filter(None, parts))}{claimed}"
    elif owner.startswith(_UNIT):
        owner = _unit(event, owner)
    comm = event.attributes.text(semconv.VICTIM_COMM) or "-"
    return None if owner == "-" else (owner, comm)


def _unit(event: DecodedEvent, label: str) -> str:
    """Return a service with its slice, as each user has its own; a scope is of one login or run."""
    slice_ = event.attributes.text(semconv.VICTIM_SYSTEMD_SLICE)
    if slice_ is None or slice_ == "system.slice":
        return label
    return f"{label} in {slice_}" if label.endswith(".service") else f"slice {slice_}"


def count_in_an_hour(times_ns: Sequence[int]) -> int:
    """Return the largest number of the sorted times within one hour."""
    return max(
        (n - bisect_left(times_ns, time_ns - _HOUR_NS) + 1 for n, time_ns in enumerate(times_ns)),
        default=0,
    )
