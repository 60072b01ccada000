"""An upgrade and a rolling restart of the agent while pods lose processes all the time."""

from __future__ import annotations

import logging

from tests.cluster.cluster import Cluster
from tests.cluster.pod_events import list_events, list_rights
from tests.cluster.release import ACCOUNT, AGENT, NAMESPACE, Release
from tests.cluster.storm import KILLS, StormPod, run_storm
from tests.testlib.servers.backend import Backend, Received
from tests.testlib.wait import wait_until

_LOG = logging.getLogger(__name__)
_ARRIVES_S = 120.0


def test_an_upgrade_and_a_restart_lose_no_kill(
    cluster: Cluster, release: Release, backend: Backend
) -> None:
    """Each kill of the kernel's count is one event, and at least 99 of 100 have all names.

    The upgrade switches off the Events on pods: the agent has no token then, and creates none.
    """
    with run_storm(cluster) as pods:
        release.upgrade(pod_events=False, **{"podAnnotations.storm": "upgraded"})
        before = [list_events(cluster, pod.name) for pod in pods]
        release.restart()
    counted = {pod.container_id: pod.count_kills() for pod in pods}
    total = sum(counted.values())
    assert total >= KILLS * len(pods)

    def all_received() -> bool:
        return len(_of_pods(backend, pods)) >= total

    try:
        wait_until(all_received, f"{total} events", limit=_ARRIVES_S)
    finally:
        received = _of_pods(backend, pods)
        named = [log for log in received if _is_named(log, pods)]
        _LOG.info("%d kills, %d events, %d of them named", total, len(received), len(named))
    by_pod = {
        pod.container_id: len({log.uid for log in received if _is_in(log, pod)}) for pod in pods
    }
    assert by_pod == counted
    assert len(received) == total, "an event was sent twice"
    assert len(named) >= 0.99 * total
    assert [log.attributes for log in backend.logs if _is_loss(log)] == []
    assert [list_events(cluster, pod.name) for pod in pods] == before
    assert not [line for line in list_rights(cluster, ACCOUNT) if line.startswith("events")]
    (agent,) = cluster.list_pods(NAMESPACE, AGENT)
    mounts = [each["mountPath"] for each in agent["spec"]["containers"][0]["volumeMounts"]]
    assert not [path for path in mounts if "serviceaccount" in path]


def _is_loss(log: Received) -> bool:
    """Return True for kills that no agent captured, but for those before the installation."""
    missed = bool(log.item.event_name == "oom.missed")
    return missed and log.attributes["oom.missed.reason"] != "before_first_start"


def _of_pods(backend: Backend, pods: list[StormPod]) -> list[Received]:
    return [log for log in backend.logs if any(_is_in(log, pod) for pod in pods)]


def _is_in(log: Received, pod: StormPod) -> bool:
    """By the cgroup in the kernel's record, which even an event without any name has."""
    return str(log.attributes.get("oom.victim.memcg.path")).endswith(pod.container_id)


def _is_named(log: Received, pods: list[StormPod]) -> bool:
    (pod,) = (each for each in pods if _is_in(log, each))
    names = {
        "k8s.pod.name": pod.name,
        "k8s.container.name": "main",
        "k8s.deployment.name": pod.app,
        "service.name": pod.app,
    }
    return names.items() <= log.resource.items()
