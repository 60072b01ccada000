"""collector-config/kubernetes.yaml: the attributes by the cluster's API of a kill in a pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.types import EnrichedKill, VictimOutcome
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg
from otel_oom.otlp.encode import encode_log, encode_span
from tests.testlib.process import LOOPBACK, free_port
from tests.testlib.repository import REPOSITORY
from tests.testlib.samples.events import CONTAINER_ID, HOST, KILL, SNAPSHOT
from tests.testlib.servers.collector import run_collector, validate_configs
from tests.testlib.servers.kube_api import run_kube_api
from tests.testlib.servers.recorder import run_recorder
from tests.testlib.servers.web import Json, http_post
from tests.testlib.wait import wait_until

FOLDER = REPOSITORY / "collector-config"
FILES = (FOLDER / "agent.yaml", FOLDER / "kubernetes.yaml")
UID = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
ANNOTATED_UID = "1b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
MIRROR_UID = "2b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
GONE_UID = "3b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
STATIC_UID = "0123456789abcdef" * 2
NAME = "checkout-7d9f8b6c5-x2k4z"
GATEWAY: Json = {
    "processors": {
        # The tests do not run in a pod: the address of the API is in a file.
        "k8s_attributes": {"auth_type": "kubeConfig", "wait_for_metadata": True}
    }
}
AUTHORS_WORD = {
    "service.name": "pay",
    "service.namespace": "payments",
    "service.version": "2026-11",
    "service.instance.id": "pay-1",
}
"""A pod's annotations, none of which a node could guess."""


def pod(name: str, uid: str, owner: Json | None, annotations: Mapping[str, str]) -> Json:
    """Return a pod as the API has it, with two containers that were not restarted."""
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": uid,
            "labels": {"pod-template-hash": "7d9f8b6c5"},
            "annotations": annotations,
            "ownerReferences": [{"uid": "1", "controller": True, **owner}] if owner else [],
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [
                {"name": "server", "image": "registry.example:5000/team/checkout:1.4.2"},
                {"name": "proxy", "image": "proxy:9"},
            ],
        },
        # The API has it by the agent's address as well, as a pod on the host's network.
        "status": {
            "phase": "Running",
            "podIP": LOOPBACK,
            "hostIP": LOOPBACK,
            "containerStatuses": [
                {"name": each, "restartCount": 0, "containerID": f"containerd://{number * 64}"}
                for each, number in (("server", "7"), ("proxy", "8"))
            ],
        },
    }


REPLICA_SET = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "checkout-7d9f8b6c5"}
NODE = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
PODS = [
    pod(NAME, UID, REPLICA_SET, {}),
    pod(
        "annotated-0",
        ANNOTATED_UID,
        REPLICA_SET,
        {f"resource.opentelemetry.io/{key}": value for key, value in AUTHORS_WORD.items()},
    ),
    pod(
        "etcd-node-1",
        MIRROR_UID,
        NODE,
        {"kubernetes.io/config.hash": STATIC_UID, "resource.opentelemetry.io/service.name": "etcd"},
    ),
]


def kill_in(
    name: str | None,
    uid: str,
    container: str | None = "server",
    environ: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> EnrichedKill:
    """Return a kill in a pod as the agent enriches it: with containerd's annotations, if any."""
    names = {"sandbox-name": name, "sandbox-namespace": "shop", "container-name": container}
    annotations = {f"io.kubernetes.cri.{key}": value for key, value in names.items() if value}
    image = "registry.example:5000/team/checkout:1.4.2"
    if name:
        annotations["io.kubernetes.cri.image-name"] = image
    described = Container(
        CONTAINER_ID,
        "containerd",
        name=container if name else None,
        image=image if name else None,
        labels=labels or {},
        annotations=annotations if name else {},
    )
    path = f"/kubepods/burstable/pod{uid}/{CONTAINER_ID}"
    snapshot = replace(SNAPSHOT, containers=EventContainers(described), environ=environ or {})
    kill = replace(KILL, memcg=Memcg(42, path))
    return enrich_kill(kill, snapshot, VictimOutcome(), KILL.time_unix_ns, HOST)


Send = Callable[[EnrichedKill], Json]


@pytest.fixture(scope="module")
def through_gateway(
    collector_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Send]:
    """Run the gateway; return a function that sends a kill and returns its resource behind it."""
    folder, backend = tmp_path_factory.mktemp("gateway"), f"{LOOPBACK}:{free_port()}"
    with (
        run_kube_api(PODS, folder) as kubeconfig,
        run_recorder(collector_binary, env={"OTLP_HTTP_LISTEN": backend}) as sink,
        run_collector(
            collector_binary,
            *FILES,
            GATEWAY,
            env={
                "BACKEND_ENDPOINT": f"http://{backend}",
                "QUEUE_DIRECTORY": str(folder / "queue"),
                "KUBECONFIG": str(kubeconfig),
            },
        ) as gateway,
    ):

        def send(kill: EnrichedKill) -> Json:
            before = len(sink.requests())
            for path, body in (("logs", encode_log(kill)), ("traces", encode_span(kill))):
                assert http_post(f"{gateway.http}/v1/{path}", body).status == 200
            wait_until(lambda: len(sink.requests()) == before + 2, "log and span", limit=30)
            log, span = (
                resource_attributes(request)
                for request in sorted(sink.requests()[before:], key=str)
            )
            assert log == span
            return log

        yield send


def resource_attributes(request: Json) -> Json:
    """Return the attributes of the one resource of a request of logs or spans."""
    ((group,),) = request.values()
    return {pair["key"]: decode_value(pair["value"]) for pair in group["resource"]["attributes"]}


def decode_value(value: Json) -> object:
    """Return a value of OTLP/JSON; a list as a tuple."""
    ((kind, content),) = value.items()
    if kind == "arrayValue":
        return tuple(decode_value(each) for each in content["values"])
    return content


def test_the_config_is_valid_after_the_agents(collector_binary: Path) -> None:
    """The Collector has nothing against the two."""
    assert (
        validate_configs(collector_binary, *FILES, env={"BACKEND_ENDPOINT": "http://127.0.0.1:9"})
        == ""
    )


def test_a_pods_workload_names_the_service(through_gateway: Send) -> None:
    """Where the agent had no better name than the pod's."""
    kill = kill_in(NAME, UID)
    received = through_gateway(kill)
    assert kill.resource["service.name"] == NAME
    added = {
        "k8s.deployment.name": "checkout",
        "k8s.replicaset.name": "checkout-7d9f8b6c5",
        "k8s.node.name": "node-1",
        "service.name": "checkout",
    }
    assert received == {**kill.resource, **added}


def test_a_late_kill_gets_pod_and_image_from_the_api(through_gateway: Send) -> None:
    """Of one that no agent saw, a node may have the id of a running container, and no name."""
    kill = kill_in(None, UID)
    kill = replace(kill, resource={**kill.resource, "container.id": "7" * 64})
    received = through_gateway(kill)
    expected = {
        "k8s.pod.name": NAME,
        "k8s.namespace.name": "shop",
        "k8s.container.name": "server",
        "container.image.name": "registry.example:5000/team/checkout",
        "container.image.tags": ("1.4.2",),
        "service.name": "checkout",
        "service.namespace": "shop",
        "service.version": "1.4.2",
        "service.instance.id": f"shop.{NAME}.server",
    }
    assert received.items() >= expected.items()
    assert "container.image.tag" not in received


@pytest.mark.parametrize("container", ["server", None])
def test_the_pods_author_outranks_the_agents_guess(
    container: str | None, through_gateway: Send
) -> None:
    """containerd has no annotation of a pod in a file: the agent guessed all four."""
    kill = kill_in("annotated-0", ANNOTATED_UID, container)
    assert {kill.resource.get(key) for key in AUTHORS_WORD} >= {"annotated-0", "shop", "1.4.2"}
    assert through_gateway(kill).items() >= AUTHORS_WORD.items()


def test_a_claim_outranks_the_pods_author(through_gateway: Send) -> None:
    """As in the workload's own telemetry, and also where it claims what the agent would guess."""
    claims = {
        "service.name": "annotated-0",
        "service.namespace": "shop",
        "service.version": "1.4.2",
        "service.instance.id": "shop.annotated-0.server",
    }
    text = ",".join(f"{key}={value}" for key, value in claims.items())
    kill = kill_in("annotated-0", ANNOTATED_UID, environ={"OTEL_RESOURCE_ATTRIBUTES": text})
    assert through_gateway(kill).items() >= claims.items()


def test_a_claim_of_one_attribute_protects_no_other(through_gateway: Send) -> None:
    kill = kill_in("annotated-0", ANNOTATED_UID, environ={"OTEL_SERVICE_NAME": "annotated-0"})
    expected = {**AUTHORS_WORD, "service.name": "annotated-0"}
    assert through_gateway(kill).items() >= expected.items()


def test_values_by_labels_are_no_guess(through_gateway: Send) -> None:
    """The user selected the labels."""
    labels = {"app.kubernetes.io/name": "basket", "app.kubernetes.io/version": "7"}
    received = through_gateway(kill_in(NAME, UID, labels=labels))
    assert (received["service.name"], received["service.version"]) == ("basket", "7")


def test_a_static_pod_has_the_annotations_of_its_mirror(through_gateway: Send) -> None:
    """By namespace and name; the UID stays the node's, as in the cgroup's path."""
    received = through_gateway(kill_in("etcd-node-1", STATIC_UID))
    assert received["service.name"] == "etcd"
    assert received["k8s.node.name"] == "node-1"
    assert received["k8s.pod.uid"] == STATIC_UID


@pytest.mark.parametrize("name", ["gone-0", NAME, None])
def test_a_pod_that_the_api_does_not_know_keeps_its_values(
    name: str | None, through_gateway: Send
) -> None:
    """It was deleted; another pod with its name may be there, with annotations of its own."""
    kill = kill_in(name, GONE_UID)
    assert kill.resource["k8s.pod.uid"] == GONE_UID
    assert through_gateway(kill) == kill.resource


def test_a_kill_outside_of_pods_gets_no_attribute_of_the_senders_pod(through_gateway: Send) -> None:
    kill = enrich_kill(KILL, SNAPSHOT, VictimOutcome(), KILL.time_unix_ns, HOST)
    assert through_gateway(kill) == kill.resource
