"""The resource of a kill."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.resource import finest_cgroup_path, victim_resource
from otel_oom.enrich.service_identity import ServiceHints
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg
from tests.testlib.samples.events import CONTAINER_ID as ID
from tests.testlib.samples.events import (
    HOST,
    HOST_ATTRIBUTES,
    KILL,
    SNAPSHOT,
    sample_enriched_kill,
)

OUTER = "f" * 64
USER = "/user.slice/user-1000.slice/user@1000.service"
POD = "pod0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"


def test_resource_has_host_container_and_service() -> None:
    assert dict(sample_enriched_kill().resource) == {
        "host.name": "node-1",
        "container.id": ID,
        "container.runtime.name": "docker",
        "service.name": "java",
    }


def test_known_attributes_precede_those_of_the_victim() -> None:
    """The victim names its service and its environment, not its host, container or pod."""
    environ = {
        "OTEL_SERVICE_NAME": "checkout",
        "OTEL_RESOURCE_ATTRIBUTES": (
            "service.version=2,deployment.environment.name=staging,host.name=evil,"
            "container.id=evil,k8s.pod.uid=evil,k8s.pod.name=checkout-x2k4z,secret=hunter2"
        ),
    }
    memcg = Memcg(id=42, path=f"/kubepods/burstable/{POD}/{ID}")
    host = replace(HOST, attributes={**HOST_ATTRIBUTES, "deployment.environment.name": "prod"})
    enriched = enrich_kill(
        replace(KILL, memcg=memcg),
        replace(SNAPSHOT, environ=environ),
        VictimOutcome(),
        KILL.time_unix_ns,
        host,
    )
    assert dict(enriched.resource) == {
        "host.name": "node-1",
        "deployment.environment.name": "staging",
        "container.id": ID,
        "k8s.pod.uid": POD.removeprefix("pod"),
        "k8s.pod.name": "checkout-x2k4z",
        "service.name": "checkout",
        "service.version": "2",
    }


@pytest.mark.parametrize(
    "path",
    [
        f"{USER}/kubepods.slice/kubepods-burstable.slice/cri-containerd-{ID}.scope",
        f"{USER}/kubepods/burstable/{POD}/{ID}",
        f"/system.slice/web.service/kubepods/burstable/{POD}/{ID}",
    ],
)
def test_a_cgroup_of_a_user_names_neither_pod_nor_container(path: str) -> None:
    resource = sample_enriched_kill(memcg=Memcg(id=42, path=path)).resource
    assert not [key for key in resource if key.startswith(("k8s.", "container."))]


def sandbox(name: str) -> dict[str, str]:
    """Return the annotations of a pod's container."""
    return {"io.kubernetes.cri.sandbox-uid": name, "io.kubernetes.cri.sandbox-name": name}


@pytest.mark.parametrize(
    ("path", "outer", "inner", "pod"),
    [
        (f"/kubepods/burstable/{POD}/{OUTER}/docker/{ID}", "own", "claimed", "own"),
        (f"/kubepods/burstable/{POD}/{OUTER}/docker/{ID}", None, "claimed", None),
        # A node of kind.
        (f"/docker/{OUTER}/kubelet/kubepods/burstable/{POD}/{ID}", None, "inner", "inner"),
    ],
)
def test_a_container_in_a_pod_names_no_other_pod(
    path: str, outer: str | None, inner: str, pod: str | None
) -> None:
    labels = {"app.kubernetes.io/name": "claimed"}
    containers = EventContainers(
        Container(ID, annotations=sandbox(inner), labels=labels),
        Container(OUTER, annotations=sandbox(outer) if outer else {}),
    )
    resource, _ = victim_resource(path, containers, ServiceHints(), {})
    assert resource["k8s.pod.uid"] == POD.removeprefix("pod")
    assert resource.get("k8s.pod.name") == pod
    assert (resource["service.name"] == "claimed") == (pod == "inner")


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/system.slice/nginx.service", "nginx"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", "web"),
        (f"/system.slice/containerd.service/{ID}", "java"),
        (f"/machine.slice/libpod-{ID}.scope/container/system.slice/nginx.service", "nginx"),
        (f"/docker/{ID}/system.slice/nginx.service", "nginx"),
    ],
)
def test_unit_names_the_service(path: str, service: str) -> None:
    """Inside a container, only a unit of the systemd that runs in it."""
    assert sample_enriched_kill(memcg=Memcg(id=42, path=path)).resource["service.name"] == service


@pytest.mark.parametrize(
    ("memory", "cgroup", "expected"),
    [
        ("/a", "0::/a/b\n", "/a/b"),
        ("/a", "0::/a\n", "/a"),
        ("/", "5:memory:/\n1:name=systemd:/system.slice/x.service\n", "/system.slice/x.service"),
        ("/a", "5:memory:/a\n3:cpu:/a/b\n0::/\n", "/a"),
        ("/a", "0::/other\n", "/a"),
        ("/a", "0::/ab\n", "/a"),
        ("/", "0::/../../a\n", "/"),
        ("/", "0::/\n", "/"),
        ("/a:b", "0::/a:b/c:d\n", "/a:b/c:d"),
        ("/a", None, "/a"),
        ("/a", "nonsense", "/a"),
    ],
)
def test_finest_cgroup_path_continues_the_memory_cgroup(
    memory: str, cgroup: str | None, expected: str
) -> None:
    kill = replace(KILL, memcg=Memcg(id=42, path=memory))
    assert finest_cgroup_path(kill, replace(SNAPSHOT, cgroup=cgroup)) == expected
