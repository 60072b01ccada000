"""Enrichment of a cgroup near its limit."""

from __future__ import annotations

from otel_oom.enrich.badness import rank_candidates
from otel_oom.enrich.host import Host
from otel_oom.enrich.resource import victim_resource
from otel_oom.enrich.service_identity import ServiceHints
from otel_oom.enrich.types import EnrichedNearLimit
from otel_oom.linux.containers.cgroup_id import containers_by_path
from otel_oom.linux.systemd.unit_files import UnitSetting
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import Snapshot


def enrich_near_limit(
    event: NearLimit,
    snapshot: Snapshot,
    observed_unix_ns: int,
    host: Host,
    limit_setting: UnitSetting | None,
) -> EnrichedNearLimit:
    """Enrich the event with its candidates, and with the resource of its cgroup."""
    containers = snapshot.containers or containers_by_path(event)
    resource, service = victim_resource(
        event.memcg.path, containers, ServiceHints(), host.attributes
    )
    return EnrichedNearLimit(
        event=event,
        snapshot=snapshot,
        observed_unix_ns=observed_unix_ns,
        limit_setting=limit_setting,
        ranked_tasks=rank_candidates(event.tasks, event.memcg_usage.limit),
        containers=containers,
        service=service,
        resource=resource,
    )
