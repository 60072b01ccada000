"""The name of a victim that outlives its restarts: repeated kills have it in common.

It is made of what the host and its runtimes know. What a victim claims of itself, such as its
service, would let a tenant count in another's kills.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from opentelemetry.util.types import AttributeValue

from otel_oom.enrich.kubernetes import find_workload
from otel_oom.enrich.types import EnrichedKill, EnrichedUserspaceKill
from otel_oom.linux.systemd.units import find_units

_MAX_CHARS: Final = 256

_Attributes = Mapping[str, AttributeValue]


def find_repeat_key(enriched: EnrichedKill | EnrichedUserspaceKill) -> str:
    """Return the name of the victim: its pod's owner, container or unit, and its thread's name.

    It is text for comparison alone.
    """
    claimed = enriched.service.claimed
    known = {name: value for name, value in enriched.resource.items() if name not in claimed}
    victim = enriched.event.victim
    owner = _pod_owner(known) or _container(known) or _unit(enriched.cgroup_path)
    parts = [known.get("host.id") or known.get("host.name"), *owner, victim and victim.comm]
    return json.dumps([str(part or "")[:_MAX_CHARS] for part in parts])


def _pod_owner(known: _Attributes) -> list[AttributeValue | None]:
    container, workload = known.get("k8s.container.name"), find_workload(known)
    if workload is not None:
        return ["pod", known.get("k8s.namespace.name"), workload, container]
    uid = known.get("k8s.pod.uid")
    return ["pod", uid, container] if uid else []


def _container(known: _Attributes) -> list[AttributeValue | None]:
    name = known.get("container.name") or known.get("container.id")
    return ["container", name] if name else []


def _unit(path: str) -> list[AttributeValue | None]:
    """Return a service with its slice, as each user has its own; a scope is of one login or run."""
    units = find_units(path)
    service = units.user_unit or units.unit or ""
    if service.endswith(".service"):
        return ["unit", units.slice, service]
    return ["slice", units.slice] if units.slice else ["cgroup", path]
