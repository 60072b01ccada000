"""What the container of a victim was started with, where the victim itself could not be read."""

from __future__ import annotations

from msgspec.structs import replace

from otel_oom.enrich.claims import ClaimBudget, Claims
from otel_oom.model.snapshot import EventContainers, Snapshot
from otel_oom.model.start_settings import PROCESS
from otel_oom.snapshot.runtime import apply_settings


def admit_claims(
    budget: ClaimBudget | None, cgroup_path: str, snapshot: Snapshot, containers: EventContainers
) -> Claims:
    """Return the claims of a victim: of its own environment, else of its container's.

    Without a ``budget``, claims are ignored.
    """
    if budget is None:
        return Claims()
    if snapshot.environ or snapshot.environ_source:
        return budget.admit(cgroup_path, snapshot.environ, snapshot.environ_source or PROCESS)
    start = containers.victim.start if containers.victim else None
    return budget.admit(cgroup_path, start.environ, start.source) if start else Claims()


def add_container_settings(
    snapshot: Snapshot, containers: EventContainers, executable: str | None
) -> Snapshot:
    """Return ``snapshot`` with the memory settings of the container, if it has none.

    Another program than the container's first may have been started with others.
    """
    start = containers.victim.start if containers.victim else None
    runtime = snapshot.runtime
    if start is None or not start.memory or (runtime and (runtime.settings or runtime.is_complete)):
        return snapshot
    runtime = apply_settings(runtime, executable or "", start.memory, is_complete=False)
    return replace(snapshot, runtime=runtime)
