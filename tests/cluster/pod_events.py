"""What the API server has of Events on pods, and of the right to create them."""

from __future__ import annotations

from tests.cluster.cluster import Cluster
from tests.cluster.scenarios import NAMESPACE
from tests.cluster.workloads import Json


def list_events(cluster: Cluster, pod: str) -> list[Json]:
    """Return the Events of kills in a pod, oldest first."""
    selector = f"reason=OOMKilled,regarding.name={pod}"
    found = cluster.get(NAMESPACE, "events.events.k8s.io", f"--field-selector={selector}")["items"]
    return sorted(found, key=lambda event: str(event["eventTime"]))


def list_rights(cluster: Cluster, account: str) -> set[str]:
    """Return a line for each right of a service account."""
    return {*cluster.kubectl("auth", "can-i", "--list", f"--as={account}").splitlines()[1:]}
