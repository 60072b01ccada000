"""The kills of all scenarios, each with what the API server and the kernel say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.cluster.cluster import Cluster
from tests.cluster.kernel_reports import Report, Reports
from tests.cluster.scenarios import (
    NAMESPACE,
    SCENARIOS,
    START_S,
    Scenario,
    find_pod,
    find_status,
    open_gate,
)
from tests.cluster.workloads import Json
from tests.testlib.kernel.oracle import KernelLog, wait_for_report_budget
from tests.testlib.wait import wait_until

_SCHEME: Final = "containerd://"


@dataclass(frozen=True)
class MadeKill:
    """A kill: the pod as the API server had it before, its owners, and the kernel's report."""

    scenario: Scenario
    pod: Json
    owners: dict[str, str]
    """Names of the workloads that own the pod, by their kinds."""
    report: Report

    @property
    def spec(self) -> Json:
        """The container as the pod's author wrote it."""
        spec = self.pod["spec"]
        kinds = ("containers", "initContainers", "ephemeralContainers")
        named = {each["name"]: each for kind in kinds for each in spec.get(kind, ())}
        container: Json = named[self.scenario.container]
        return container

    @property
    def status(self) -> Json:
        """The container's status while it waited for its kill."""
        return find_status(self.pod, self.scenario.container)

    @property
    def container_id(self) -> str:
        """The container's id."""
        return container_id_of(self.pod, self.scenario.container)


def container_id_of(pod: Json, container_name: str) -> str:
    """Return the id of a container that runs."""
    return str(find_status(pod, container_name)["containerID"]).removeprefix(_SCHEME)


def make_kills(cluster: Cluster) -> dict[str, MadeKill]:
    """Have one container of each scenario killed, the last ones to start at the end."""
    kills = {}
    with KernelLog() as log:
        reports = Reports(log)
        for name, scenario in reversed(SCENARIOS.items()):
            kills[name] = _make_kill(cluster, scenario, reports)
    return kills


def _make_kill(cluster: Cluster, scenario: Scenario, reports: Reports) -> MadeKill:
    pod = wait_until(
        lambda: find_pod(cluster, scenario.app, scenario.container), scenario.app, limit=START_S
    )
    owners = dict(_list_owners(cluster, pod))
    container_id = container_id_of(pod, scenario.container)
    wait_for_report_budget(1)
    (scenario.act or open_gate)(cluster, pod["metadata"]["name"], scenario.container)
    return MadeKill(scenario, pod, owners, reports.wait_for(container_id))


def _list_owners(cluster: Cluster, owned: Json) -> list[tuple[str, str]]:
    """Return kinds and names of an object's owners, and of theirs."""
    owners = []
    for owner in owned["metadata"].get("ownerReferences", ()):
        kind, name = owner["kind"], owner["name"]
        owners.append((kind, name))
        if kind != "Node":  # which owns static pods
            owner_object: Any = cluster.get(NAMESPACE, kind, name)
            owners += _list_owners(cluster, owner_object)
    return owners
