"""Kills in pods of every kind, compared with the API server and with the kernel's own report."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.cluster.made_kills import MadeKill
from tests.cluster.plan import NODE
from tests.cluster.scenarios import SCENARIOS
from tests.testlib.servers.backend import Backend, Received
from tests.testlib.wait import wait_until

_ARRIVES_S: Final = 120.0
_WORKLOADS: Final = {
    "CronJob": "k8s.cronjob.name",
    "DaemonSet": "k8s.daemonset.name",
    "Deployment": "k8s.deployment.name",
    "Job": "k8s.job.name",
    "ReplicaSet": "k8s.replicaset.name",
    "StatefulSet": "k8s.statefulset.name",
}
"""Attributes by the kinds of owners, in the semantic conventions' order by which one names the
service: the outermost owner."""
_MIRROR: Final = "kubernetes.io/config.hash"
"""Annotation with the UID that a static pod has on its node; the API has that of its mirror."""
_UNITS: Final = {"Mi": 1 << 20}


@pytest.fixture(params=SCENARIOS)
def kill(request: pytest.FixtureRequest, kills: dict[str, MadeKill]) -> MadeKill:
    """Return the kill of each scenario."""
    return kills[request.param]


@pytest.fixture
def log(kill: MadeKill, backend: Backend) -> Received:
    """Return the log event of the kill, as the gateway has sent it."""

    def find() -> list[Received]:
        return [log for log in backend.logs if _is_of(log, kill)]

    (log,) = wait_until(find, f"the event of {kill.report.pid}", limit=_ARRIVES_S)
    return log


def _is_of(received: Received, kill: MadeKill) -> bool:
    return received.attributes.get("process.pid") == kill.report.pid


def test_pod_and_container_are_those_of_the_api(kill: MadeKill, log: Received) -> None:
    meta = kill.pod["metadata"]
    expected = {
        "k8s.namespace.name": meta["namespace"],
        "k8s.pod.name": meta["name"],
        "k8s.node.name": NODE,
        "k8s.container.name": kill.status["name"],
        "k8s.container.restart_count": kill.status["restartCount"],
        "container.id": kill.container_id,
        "container.name": kill.status["name"],
        "container.runtime.name": "containerd",
    }
    assert _select(log.resource, expected) == expected
    assert log.resource["k8s.pod.uid"] in {
        meta["uid"],
        meta.get("annotations", {}).get(_MIRROR),
    }
    assert log.attributes["oom.victim.pod.qos_class"] == kill.pod["status"]["qosClass"]


def test_image_is_that_of_the_spec(kill: MadeKill, log: Received) -> None:
    name, _, tag = kill.spec["image"].rpartition(":")
    assert log.resource["container.image.name"] == name
    assert log.resource["container.image.tags"] == [tag]
    # What the API server has is the runtime's own id of the image.
    assert log.resource["container.image.id"] == kill.status["imageID"]


def test_limit_is_that_of_the_kernels_report(kill: MadeKill, log: Received) -> None:
    assert kill.report.limit_memcg is not None
    assert log.attributes["oom.limit.memcg.path"] == kill.report.limit_memcg
    assert log.attributes["oom.victim.memcg.path"] == kill.report.victim_memcg
    uid = kill.pod["metadata"].get("annotations", {}).get(_MIRROR, kill.pod["metadata"]["uid"])
    ends = {"container": kill.container_id, "pod": f"pod{uid}", "class": "/besteffort"}
    assert kill.report.limit_memcg.endswith(ends[kill.scenario.limited_by]), "another scenario"
    if kill.scenario.limited_by == "container":
        limit = kill.spec["resources"]["limits"]["memory"]
        assert log.attributes["oom.limit.memcg.limit"] == int(limit[:-2]) * _UNITS[limit[-2:]]


def test_report_is_the_kernels(kill: MadeKill, log: Received) -> None:
    assert kill.report.line in log.attributes["log.record.original"]
    assert f"Killed process {kill.report.pid} (" in log.attributes["log.record.original"]


def test_workload_is_that_of_the_api(kill: MadeKill, log: Received) -> None:
    """Also the service, unless the pod's author names it."""
    expected = {_WORKLOADS[kind]: name for kind, name in kill.owners.items() if kind in _WORKLOADS}
    found = {name: value for name, value in log.resource.items() if name in _WORKLOADS.values()}
    assert found == expected
    meta = kill.pod["metadata"]
    author = meta.get("annotations", {})
    # The owners are listed from the pod outwards.
    service = [meta["name"], *expected.values()][-1]
    named = {
        "service.name": author.get("resource.opentelemetry.io/service.name", service),
        "service.version": author.get(
            "resource.opentelemetry.io/service.version", kill.spec["image"].rpartition(":")[2]
        ),
        "service.namespace": meta["namespace"],
        "service.instance.id": f"{meta['namespace']}.{meta['name']}.{kill.status['name']}",
    }
    assert _select(log.resource, named) == named


def test_each_kill_is_sent_once_with_its_span(
    kill: MadeKill, log: Received, backend: Backend
) -> None:
    def find() -> list[Received]:
        return [span for span in backend.spans if span.uid == log.uid]

    (span,) = wait_until(find, "the span", limit=_ARRIVES_S)
    assert span.resource == log.resource
    assert len([each for each in backend.logs if _is_of(each, kill)]) == 1


def _select(attributes: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return {name: attributes.get(name) for name in names}
