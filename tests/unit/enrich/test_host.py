"""Attributes that the events of a host share."""

from __future__ import annotations

from otel_oom.enrich.host import host_resource
from tests.testlib.samples.events import (
    HOST_ATTRIBUTES,
)


def test_agent_attributes_are_not_the_hosts() -> None:
    resource = host_resource(
        HOST_ATTRIBUTES,
        {
            "deployment.environment.name": "prod",
            "service.name": "otel-oom",
            "process.pid": "1",
            "host.name": "node-of-the-user",
            "k8s.deployment.name": "agents",
            "k8s.pod.name": "the-agents-pod",
            "k8s.cluster.name": "blue",
            "k8s.node.name": "node-1",
        },
    )
    assert resource == {
        "host.name": "node-of-the-user",
        "deployment.environment.name": "prod",
        "k8s.cluster.name": "blue",
        "k8s.node.name": "node-1",
    }
