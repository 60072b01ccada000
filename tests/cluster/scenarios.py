"""Kills in pods of every kind, which are made one after the other.

Each container waits at a gate until its kill is due, so that the kernel prints the whole report
of each: it prints ten in five seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from otel_oom.linux.cgroupfs import CgroupMount
from tests.cluster.cluster import Cluster, ClusterError
from tests.cluster.workloads import (
    MEBIBYTE,
    Json,
    as_static_pod,
    container,
    cron_job,
    job,
    pod,
    pod_spec,
    workload,
)
from tests.testlib.containers.cri import IMAGE
from tests.testlib.containers.image import FILL_MEMORY, FILL_MEMORY_IN_CHILD, IDLE, OPEN_GATE
from tests.testlib.wait import wait_until

NAMESPACE: Final = "shop"
"""Namespace of all pods that are killed."""
FIRST: Final = "first"
"""A pod that runs before the agent is installed."""
MORE_KILLS: Final = 3
"""Kills in it after the first one."""
START_S: Final = 120.0

_HOLD_MEMORY: Final = "{ head -c 20000000 /dev/zero; exec sleep 100000; } | tail -c 20000000"
_FILL: Final = "exec tail /dev/zero"

Action = Callable[[Cluster, str, str], None]
"""Has a container of a pod killed."""


@dataclass(frozen=True)
class Scenario:
    """A pod, found by its label ``app``, and the container in it that is killed."""

    app: str
    objects: tuple[Json, ...] = ()
    container: str = "main"
    act: Action | None = None
    """In place of opening the gate."""
    limited_by: str = "container"
    """Whose cgroup is full: that of the ``container``, the ``pod`` or the ``class``."""


def open_gate(cluster: Cluster, pod_name: str, container_name: str) -> None:
    """Let the container allocate memory until it is killed."""
    run_in(cluster, pod_name, container_name, OPEN_GATE)


def run_in(cluster: Cluster, pod_name: str, container_name: str, program: str) -> None:
    """Run a program in a container, by the API."""
    cluster.kubectl(
        "-n", NAMESPACE, "exec", pod_name, "-c", container_name, "--", "sh", "-c", program
    )


def _open_gate_and_delete(cluster: Cluster, pod_name: str, container_name: str) -> None:
    open_gate(cluster, pod_name, container_name)
    cluster.kubectl("-n", NAMESPACE, "delete", "pod", pod_name, "--force", "--wait=false")


def _exec_and_fill(cluster: Cluster, pod_name: str, container_name: str) -> None:
    with contextlib.suppress(ClusterError):  # it ends as what was killed ends
        run_in(cluster, pod_name, container_name, _FILL)


def _fill_class(cluster: Cluster, pod_name: str, container_name: str) -> None:
    with _limited_class(cluster):
        open_gate(cluster, pod_name, container_name)
        wait_until(
            lambda: not find_pod(cluster, pod_name, container_name),
            f"the end of {pod_name}",
            limit=START_S,
        )


@contextmanager
def _limited_class(cluster: Cluster) -> Iterator[None]:
    """Limit all BestEffort pods together, as the kubelet does with reserved memory (qosReserved).

    None of them has a limit, and the node's own would kill what does not belong to the tests.
    """
    mount = CgroupMount.find()
    assert mount is not None
    folder = mount.mount / cluster.folder.cgroup.lstrip("/") / "kubepods/besteffort"
    limit, usage, none = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "-1")
        if mount.v1
        else ("memory.max", "memory.current", "max")
    )
    used = int((folder / usage).read_text(encoding="ascii"))
    (folder / limit).write_text(str(used + 32 * MEBIBYTE), encoding="ascii")
    try:
        yield
    finally:
        (folder / limit).write_text(none, encoding="ascii")


def find_pod(cluster: Cluster, app: str, container_name: str) -> Json:
    """Return a pod with a label ``app`` in which a container runs; nothing if there is none."""
    pods = cluster.list_pods(NAMESPACE, f"app={app}")
    return next((pod for pod in pods if "running" in _state(pod, container_name)), {})


def find_status(found: Json, container_name: str) -> Json:
    """Return the status of a container of any kind; nothing before it was created."""
    status = found["status"]
    kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    statuses = (each for kind in kinds for each in status.get(kind, ()))
    return next((each for each in statuses if each["name"] == container_name), {})


def _state(found: Json, container_name: str) -> Json:
    state: Json = find_status(found, container_name).get("state", {})
    return state


def add_ephemeral_container(cluster: Cluster) -> None:
    """Add a container for debugging to the pod of that scenario, once that runs."""
    wait_until(lambda: find_pod(cluster, "debugged", "main"), "debugged", limit=START_S)
    cluster.kubectl(
        *("-n", NAMESPACE, "debug", "debugged", f"--image={IMAGE}", "--container=debugger"),
        *("--image-pull-policy=Never", "--", "sh", "-c", FILL_MEMORY),
    )


def _waiting(memory: str = "32Mi", **more: object) -> Json:
    return container("main", FILL_MEMORY, memory, **more)


def _neighbour() -> Json:
    """Return a container by whose limit the pod's, which is the sum, is not the first to be hit."""
    return container("neighbour", IDLE, "64Mi")


STATIC: Final = pod(NAMESPACE, "static", _waiting(), _neighbour())
_POD_LIMIT: Final = {"limits": {"memory": "64Mi"}, "requests": {"memory": "2Mi"}}
_GUARANTEED: Final = {"resources": {"limits": {"memory": "32Mi", "cpu": "500m"}}}
_AUTHOR: Final = {
    "resource.opentelemetry.io/service.name": "checkout",
    "resource.opentelemetry.io/service.version": "7.1",
}

SCENARIOS: Final = {
    "cron-job": Scenario(
        "cron", (cron_job(NAMESPACE, "cron", pod_spec(_waiting(), _neighbour())),)
    ),
    "own-limit": Scenario(
        "web", (workload(NAMESPACE, "Deployment", "web", pod_spec(_waiting(), _neighbour())),)
    ),
    "child": Scenario(
        "child",
        (
            workload(
                NAMESPACE,
                "Deployment",
                "child",
                pod_spec(container("main", FILL_MEMORY_IN_CHILD, "32Mi"), _neighbour()),
            ),
        ),
    ),
    "pod-limit": Scenario(
        "pair",
        (
            pod(
                NAMESPACE,
                "pair",
                container("main", FILL_MEMORY),
                container("holder", _HOLD_MEMORY),
                resources=_POD_LIMIT,
            ),
        ),
        limited_by="pod",
    ),
    "init": Scenario(
        "init", (pod(NAMESPACE, "init", container("later"), initContainers=[_waiting()]),)
    ),
    "sidecar": Scenario(
        "sidecar",
        (
            pod(
                NAMESPACE,
                "sidecar",
                container("app", IDLE, "64Mi"),
                initContainers=[_waiting(restartPolicy="Always")],
            ),
        ),
    ),
    "static": Scenario("static"),
    "guaranteed": Scenario(
        "guaranteed",
        (pod(NAMESPACE, "guaranteed", _waiting("", **_GUARANTEED)),),
        limited_by="pod",
    ),
    "burstable": Scenario(
        "store",
        (
            workload(
                NAMESPACE,
                "StatefulSet",
                "store",
                pod_spec(_waiting(), _neighbour()),
                serviceName="store",
            ),
        ),
    ),
    "best-effort": Scenario(
        "best-effort",
        (pod(NAMESPACE, "best-effort", container("main", FILL_MEMORY)),),
        act=_fill_class,
        limited_by="class",
    ),
    "job": Scenario("import", (job(NAMESPACE, "import", pod_spec(_waiting(), _neighbour())),)),
    "deleted": Scenario(
        "deleted",
        (pod(NAMESPACE, "deleted", _waiting(), _neighbour()),),
        act=_open_gate_and_delete,
    ),
    "exec": Scenario(
        "exec",
        (pod(NAMESPACE, "exec", container("main", IDLE, "32Mi"), _neighbour()),),
        act=_exec_and_fill,
    ),
    "ephemeral": Scenario(
        "debugged",
        (pod(NAMESPACE, "debugged", container("main", IDLE, "32Mi")),),
        container="debugger",
        limited_by="pod",
    ),
    "host-pid": Scenario(
        "node-tool",
        (
            workload(
                NAMESPACE,
                "DaemonSet",
                "node-tool",
                pod_spec(_waiting(), _neighbour(), hostPID=True),
            ),
        ),
    ),
    "named-by-author": Scenario(
        "named",
        (
            {
                **(named := pod(NAMESPACE, "named", _waiting(), _neighbour())),
                "metadata": {**named["metadata"], "annotations": _AUTHOR},
            },
        ),
    ),
}


def apply_first(cluster: Cluster) -> None:
    """Create what starts at the next full minute, and the pod of the first kill."""
    first = container("main", FILL_MEMORY_IN_CHILD, "32Mi")
    cluster.apply(*SCENARIOS["cron-job"].objects, pod(NAMESPACE, FIRST, first))


def kill_more_in_first(cluster: Cluster) -> None:
    """Have further processes of the first pod killed."""
    for _ in range(MORE_KILLS):
        _exec_and_fill(cluster, FIRST, "main")


def apply_all(cluster: Cluster) -> None:
    """Create all pods."""
    cluster.apply(*(each for scenario in SCENARIOS.values() for each in scenario.objects))
    file = cluster.folder.static_pods / "static.yaml"
    file.write_text(as_static_pod(STATIC), encoding="ascii")
    add_ephemeral_container(cluster)
