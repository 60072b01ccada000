"""Kills one after the other in some pods, and the kernel's own count of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.linux.cgroupfs import CgroupMount, read_flat_keyed
from tests.cluster.cluster import Cluster
from tests.cluster.made_kills import container_id_of
from tests.cluster.scenarios import NAMESPACE, START_S, find_pod, run_in
from tests.cluster.workloads import container, pod_spec, workload
from tests.testlib.containers.image import IDLE
from tests.testlib.wait import wait_until

KILLS: Final = 100
"""The least number of kills in each pod."""
_PODS: Final = ("storm-a", "storm-b", "storm-c")
_ENDED: Final = "that was all"
_STORM: Final = f"""\
i=0
while [ $i -lt {KILLS} ] || [ ! -e /enough ]; do
    tail /dev/zero
    i=$((i + 1))
    sleep 0.1
done
echo {_ENDED}
exec sleep 100000
"""
_END_S: Final = 300.0


@dataclass(frozen=True)
class StormPod:
    """A pod in which processes are killed, all in one container that lives on."""

    app: str
    name: str
    container_id: str
    memcg: Path

    def count_kills(self) -> int:
        """Return the kernel's count of kills in the container."""
        events = "memory.oom_control" if _mount().v1 else "memory.events"
        return read_flat_keyed(self.memcg / events)["oom_kill"]


@contextmanager
def run_storm(cluster: Cluster) -> Iterator[list[StormPod]]:
    """Have processes killed as long as the context is entered, and at least KILLS times a pod."""
    limited = container("main", _STORM, "16Mi")
    neighbour = container("neighbour", IDLE, "64Mi")
    cluster.apply(
        *(workload(NAMESPACE, "Deployment", app, pod_spec(limited, neighbour)) for app in _PODS)
    )
    pods = [_wait_for(cluster, app) for app in _PODS]
    yield pods
    for pod in pods:
        run_in(cluster, pod.name, "main", "> /enough")
    wait_until(
        lambda: all(_is_over(cluster, pod) for pod in pods), "the end of the storm", limit=_END_S
    )


def _wait_for(cluster: Cluster, app: str) -> StormPod:
    pod = wait_until(lambda: find_pod(cluster, app, "main"), app, limit=START_S)
    container_id = container_id_of(pod, "main")
    (memcg,) = (_mount().mount / cluster.folder.cgroup.lstrip("/")).rglob(container_id)
    return StormPod(app, pod["metadata"]["name"], container_id, memcg)


def _is_over(cluster: Cluster, pod: StormPod) -> bool:
    return _ENDED in cluster.kubectl("-n", NAMESPACE, "logs", pod.name, "-c", "main")


def _mount() -> CgroupMount:
    mount = CgroupMount.find()
    assert mount is not None
    return mount
