"""collector-config/kubernetes.yaml: the attributes by the cluster's API of a kill in a pod."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.testlib.process import LOOPBACK, free_port
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.collector import run_collector, validate_configs
from tests.testlib.servers.kube_api import run_kube_api
from tests.testlib.servers.recorder import run_recorder
from tests.testlib.servers.web import Json, http_post
from tests.testlib.wait import wait_until

FOLDER = REPOSITORY / "collector-config"
FILES = (FOLDER / "agent.yaml", FOLDER / "kubernetes.yaml")
UID = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
NAME = "checkout-7d9f8b6c5-x2k4z"
OUTSIDE: Json = {"processors": {"k8s_attributes": {"auth_type": "kubeConfig"}}}
"""The tests do not run in a pod: the address of the API is in a file."""

POD: Json = {
    "metadata": {
        "name": NAME,
        "namespace": "shop",
        "uid": UID,
        "labels": {"pod-template-hash": "7d9f8b6c5"},
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "checkout-7d9f8b6c5",
                "uid": "1",
                "controller": True,
            }
        ],
    },
    "spec": {"nodeName": "node-1", "containers": [{"name": "server", "image": "checkout:1.4.2"}]},
    # The API knows it by the agent's address as well, as it does a pod on the host's network.
    "status": {"phase": "Running", "podIP": LOOPBACK, "hostIP": LOOPBACK},
}


def resource_of(attributes: dict[str, str], binary: Path, folder: Path) -> dict[str, str]:
    """Send a kill with this resource through the Collector; return the resource that arrives."""
    backend = f"{LOOPBACK}:{free_port()}"
    resource = {
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()]
    }
    scopes = [{"logRecords": [{"eventName": "oom.kill", "severityNumber": 21}]}]
    with (
        run_kube_api([POD], folder) as kubeconfig,
        run_recorder(binary, env={"OTLP_HTTP_LISTEN": backend}) as sink,
        run_collector(
            binary,
            *FILES,
            OUTSIDE,
            {"processors": {"k8s_attributes": {"wait_for_metadata": True}}},
            env={
                "BACKEND_ENDPOINT": f"http://{backend}",
                "QUEUE_DIRECTORY": str(folder / "queue"),
                "KUBECONFIG": str(kubeconfig),
            },
        ) as gateway,
    ):
        body = {"resourceLogs": [{"resource": resource, "scopeLogs": scopes}]}
        assert http_post(f"{gateway.http}/v1/logs", body).status == 200
        (request,) = wait_until(sink.requests, "the log", limit=30)
    (group,) = request["resourceLogs"]
    return {
        pair["key"]: pair["value"].get("stringValue") for pair in group["resource"]["attributes"]
    }


def test_the_config_is_valid_after_the_agents(collector_binary: Path) -> None:
    """The Collector has nothing against the two."""
    assert (
        validate_configs(collector_binary, *FILES, env={"BACKEND_ENDPOINT": "http://127.0.0.1:9"})
        == ""
    )


@pytest.mark.parametrize("name", [NAME, "unknown_service:java"])
def test_a_pods_workload_names_the_service(
    name: str, collector_binary: Path, tmp_path: Path
) -> None:
    """Where the agent had no better name than the pod's, or none."""
    sent = {"k8s.pod.uid": UID, "k8s.pod.name": NAME, "service.name": name}
    received = resource_of(sent, collector_binary, tmp_path)
    assert received["k8s.deployment.name"] == "checkout"
    assert received["service.name"] == "checkout"
    assert received["service.namespace"] == "shop"
    assert received["k8s.node.name"] == "node-1"


def test_a_service_that_named_itself_keeps_its_name(collector_binary: Path, tmp_path: Path) -> None:
    """The name by the process or its pod's annotation has precedence."""
    sent = {"k8s.pod.uid": UID, "k8s.pod.name": NAME, "service.name": "pay"}
    received = resource_of(sent, collector_binary, tmp_path)
    assert (received["service.name"], received["k8s.deployment.name"]) == ("pay", "checkout")


def test_a_pod_that_the_api_does_not_know_keeps_its_name(
    collector_binary: Path, tmp_path: Path
) -> None:
    """It was deleted, or is a static one."""
    sent = {"k8s.pod.uid": UID[::-1], "k8s.pod.name": "gone-0", "service.name": "gone-0"}
    assert resource_of(sent, collector_binary, tmp_path) == sent


def test_a_kill_outside_of_pods_gets_no_attribute_of_the_senders_pod(
    collector_binary: Path, tmp_path: Path
) -> None:
    sent = {"host.name": "node-1", "service.name": "sshd"}
    assert resource_of(sent, collector_binary, tmp_path) == sent
